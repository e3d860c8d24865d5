"""What is printed where: each learner's prints in a file, results on stdout, lines on stderr."""

import json
import re

import pytest

from tests.conftest import EXAMPLES, ROOT, unstamped, wait_until

PRINTING = ROOT / "tests" / "repositories" / "printing"
NUMPY = EXAMPLES / "numpy_minimal"
WAYS = ["by print", "by stderr", "by the descriptor", "by a process", "by C"]
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


def simulate(run_cli, folder, ending, *options):
    return run_cli(
        "flops_fl", "simulate", PRINTING, "--learners", 3, "--processes", 2, "--rounds", 2,
        "--no-tracking", "--output", folder, *options, env={"ENDING": ending},
    )  # fmt: skip


@pytest.mark.slow
def test_each_learner_prints_to_a_file_of_its_own(run_cli, tmp_path):
    code, out, err = simulate(run_cli, tmp_path, "", "--json")
    assert code == 0, err
    assert json.loads(out)["status"] == "completed"
    assert err.count("a model is built") == 1  # the aggregator's own
    assert not [way for way in [*WAYS, "step"] if way in err]
    assert re.search(f"^{STAMP}3 learners, .*{re.escape(str(tmp_path / 'learners'))}$", err, re.M)
    assert re.search(f"^{STAMP}3 of 3 learners present: .*joined$", err, re.M)
    assert re.search(f"^{STAMP}round 2/2 ", err, re.M)
    assert len(list((tmp_path / "learners").iterdir())) == 3
    for index in range(3):
        printed = (tmp_path / "learners" / f"learner-{index}.log").read_text()
        assert [printed.count(way) for way in WAYS] == [2] * len(WAYS)
        assert printed.splitlines()[0] == "a model is built"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("killed", r"learner-\d was at work when its process was killed by SIGABRT"),
        ("left", r"learner-\d was at work when its process ended with exit code 7 and without an"),
        ("raised", r"round 1 needs 1 updates .* not today"),
    ],
)
def test_the_last_lines_of_who_fails_are_shown(run_cli, tmp_path, ending, said):
    code, _, err = simulate(run_cli, tmp_path, ending)
    assert code == 4, err
    assert re.match(f"error: {said}", unstamped(err).splitlines()[-1])
    assert json.loads((tmp_path / "result.json").read_text())["error"] in err.splitlines()[-1]
    shown = re.search(r"its last lines of output, from (.*)/learner-\d\.log:\n((?:  .*\n)+)", err)
    assert shown.group(1) == str(tmp_path / "learners")
    assert [line.strip() for line in shown.group(2).splitlines()][-5:] == WAYS
    assert "step 1 of" not in err


@pytest.mark.slow
def test_lines_of_both_actors_in_a_container(processes, digits, run_cli):
    """The learner comes first; who listens where, and who has joined, is said."""
    learner = processes.learner(NUMPY, digits / "part-0", "first")
    wait_until(lambda: "waiting for the aggregator" in processes.stderr(learner))
    aggregator = processes.aggregator(NUMPY, "--rounds", 1)
    processes.result(aggregator)
    processes.finish(learner)
    said = processes.stderr(learner)
    assert re.search(f"^{STAMP}\\[first\\] waiting for the aggregator at .* refused", said, re.M)
    assert said.count("waiting for") == 1
    assert "disconnected" not in said
    said = processes.stderr(aggregator)
    assert re.search(f"^{STAMP}listening on {processes.address}, without TLS$", said, re.M)
    assert re.search(f"^{STAMP}1 of 1 learners present: first joined$", said, re.M)
