"""A federation of real processes, as its users start it."""

import json
import time

import numpy as np
import pytest

from tests.conftest import EXAMPLES, wait_for_port, wait_until
from tests.proxy import Proxy

NUMPY = EXAMPLES / "numpy_minimal"


@pytest.mark.parametrize("hosts", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_three_learners_in_any_order_and_hosted_together_give_the_same_model(
    processes, digits, tmp_path, hosts
):
    early = processes.learner(NUMPY, digits / "part-0", "learner-0", "--data-tags", "digits")
    aggregator = processes.aggregator(NUMPY, "--rounds", 3, "--min-clients", 3, "--seed", 7)
    late = [processes.learner(NUMPY, digits / f"part-{n}", f"learner-{n}") for n in (2, 1)]
    result = processes.result(aggregator)
    for learner in (early, *late):
        processes.finish(learner)

    assert result["status"] == "completed"
    assert [r["round"] for r in result["rounds"]] == [1, 2, 3]
    assert result["rounds"][0]["learners"] == ["learner-0", "learner-1", "learner-2"]
    assert result["best"]["accuracy"] > 0.85
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())
    # Each version of the model crosses the wire once a learner: a fit leaves it nowhere, the
    # evaluation leaves it for the next fit. 2600 bytes of parameters, 3 learners.
    assert 3 * 2600 <= result["rounds"][1]["bytes_down"] < 3 * 2600 * 1.3

    data = tmp_path / "data"
    data.mkdir()
    for n in range(3):
        (part,) = (digits / f"part-{n}").glob("*.parquet")
        (data / f"learner-{n}.x.parquet").symlink_to(part)
    names = ["learner-0,learner-2", "learner-1"] if hosts == 2 else [
        "learner-2,learner-1,learner-0"
    ]  # fmt: skip
    again = type(processes)(tmp_path / "again")
    again.folder.mkdir()
    try:
        aggregator = again.aggregator(NUMPY, "--rounds", 3, "--min-clients", 3, "--seed", 7)
        for group in names:
            again.learner(NUMPY, data, group, "--data-tags", "{id}")
        assert again.result(aggregator)["model_sha256"] == result["model_sha256"]
    finally:
        again.stop()


@pytest.mark.parametrize(
    "example",
    [
        pytest.param("numpy_minimal", marks=pytest.mark.slow),
        pytest.param("digits_pytorch", marks=pytest.mark.torch),
    ],
)
def test_simulations_do_not_depend_on_the_number_of_processes(example, run_cli, tmp_path):
    hashes = set()
    for count in (1, 3):
        code, out, err = run_cli(
            "flops_fl", "simulate", EXAMPLES / example, "--learners", 3, "--rounds", 2,
            "--processes", count, "--no-tracking", "--json", "--output", tmp_path / str(count),
        )  # fmt: skip
        assert code == 0, err
        hashes.add(json.loads(out)["model_sha256"])
    assert len(hashes) == 1


@pytest.mark.torch
def test_torch_gives_the_same_model_in_real_processes(processes, digits, tmp_path, run_cli):
    """Shuffling, dropout and int64 counters included."""
    torch_example = EXAMPLES / "digits_pytorch"
    hashes = []
    for turn in range(2):
        group = type(processes)(tmp_path / str(turn))
        group.folder.mkdir()
        try:
            aggregator = group.aggregator(torch_example, "--rounds", 2, "--min-clients", 3)
            for n in (range(3), reversed(range(3)))[turn]:
                group.learner(torch_example, digits / f"part-{n}", f"learner-{n}")
            result = group.result(aggregator)
        finally:
            group.stop()
        hashes.append(result["model_sha256"])
        with np.load(group.folder / "run" / "model-last.npz") as model:
            counters = [a for a in model.values() if a.dtype == np.int64]
        assert counters
        assert all(c.shape == () and c > 0 for c in counters)
    assert hashes[0] == hashes[1]


def _wait_for(pattern, folder, seconds=40, count=1):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = list(folder.glob(pattern))
        if len(found) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {pattern} within {seconds} s")


@pytest.mark.slow
def test_a_learner_killed_in_mid_round_is_started_again_and_the_run_completes(
    processes, digits, slow_repo, tmp_path
):
    quick = {"MARK": str(tmp_path / "quick")}
    slow = {"MARK": str(tmp_path / "slow"), "FIT_SECONDS": "30"}
    aggregator = processes.aggregator(slow_repo, "--rounds", 3, "--min-clients", 3)
    for n in (0, 1):
        processes.learner(slow_repo, digits / f"part-{n}", f"learner-{n}", env=quick)
    victim = processes.learner(slow_repo, digits / "part-2", "learner-2", env=slow)
    _wait_for("slow-fit-*", tmp_path)
    victim.kill()
    processes.learner(slow_repo, digits / "part-2", "learner-2", env=quick)
    result = processes.result(aggregator)
    assert [len(r["learners"]) for r in result["rounds"]] == [3, 3, 3]
    assert not any(r["failures"] for r in result["rounds"])


@pytest.mark.slow
def test_a_failing_fit_costs_its_update_and_the_learner_stays(
    processes, digits, slow_repo, tmp_path
):
    good, bad = {"MARK": str(tmp_path / "good")}, {"MARK": str(tmp_path / "bad")}
    (tmp_path / "bad-break").touch()
    options = ["--rounds", 2, "--min-available-clients", 3, "--min-fit-clients", 2]
    aggregator = processes.aggregator(slow_repo, *options)
    for n in (0, 1):
        processes.learner(slow_repo, digits / f"part-{n}", f"learner-{n}", env=good)
    broken = processes.learner(slow_repo, digits / "part-2", "learner-2", env=bad)
    result = processes.result(aggregator)
    assert [r["learners"] for r in result["rounds"]] == [["learner-0", "learner-1"]] * 2
    for record in result["rounds"]:
        (failure,) = record["failures"]
        assert failure["learner"] == "learner-2"
        assert failure["stage"] == "fit_model"
        assert "this learner is broken" in failure["reason"]
    processes.finish(broken, code=3)
    assert "RuntimeError: this learner is broken" in processes.stderr(aggregator)
    assert len(list(tmp_path.glob("bad-fit-*"))) == 2


def test_too_few_updates_fail_the_federation_and_name_who_is_missing(
    processes, digits, slow_repo, tmp_path
):
    (tmp_path / "bad-break").touch()
    aggregator = processes.aggregator(slow_repo, "--rounds", 2, "--min-clients", 1)
    learner = processes.learner(
        slow_repo, digits / "part-2", "learner-2", env={"MARK": str(tmp_path / "bad")}
    )
    result = processes.result(aggregator, code=4)
    assert result["status"] == "failed"
    assert "learner-2" in result["error"]
    assert "learner-2" in processes.stderr(aggregator).splitlines()[-1]
    processes.finish(learner, code=3)


@pytest.mark.slow
def test_a_second_process_under_one_id_is_refused_and_told_so(
    processes, digits, slow_repo, tmp_path
):
    env = {"MARK": str(tmp_path / "one"), "FIT_SECONDS": "12"}
    aggregator = processes.aggregator(slow_repo, "--rounds", 1)
    processes.learner(slow_repo, digits / "part-0", "same", env=env)
    _wait_for("one-fit-*", tmp_path)
    second = processes.learner(slow_repo, digits / "part-1", "same", env=env)
    processes.finish(second, code=5)
    assert "'same' is in use by another running process" in processes.stderr(second)
    assert processes.result(aggregator)["rounds"][0]["learners"] == ["same"]


@pytest.mark.slow
def test_a_stage_ends_early_and_the_late_one_is_there_next_time(
    processes, digits, slow_repo, tmp_path
):
    quick, slow = {"MARK": str(tmp_path / "quick")}, {"MARK": str(tmp_path / "slow")}
    options = ["--rounds", 2, "--min-available-clients", 3, "--min-fit-clients", 2]
    aggregator = processes.aggregator(slow_repo, *options, "--grace", 0.5)
    for n in (0, 1):
        processes.learner(slow_repo, digits / f"part-{n}", f"l{n}", env=quick)
    late = {**slow, "FIT_SECONDS": "4"}
    slow_one = processes.learner(slow_repo, digits / "part-2", "late", env=late)
    result = processes.result(aggregator)
    assert [r["learners"] for r in result["rounds"]] == [["l0", "l1"]] * 2
    assert result["rounds"][0]["fit_seconds"] < 3
    failure = result["rounds"][0]["failures"][0]
    assert (failure["learner"], "(--grace)" in failure["reason"]) == ("late", True)
    processes.finish(slow_one)
    assert "cancelled" in processes.stderr(slow_one)


@pytest.mark.slow
def test_a_learner_that_always_fails_is_put_aside_and_told_why(
    processes, digits, slow_repo, tmp_path
):
    good, bad = {"MARK": str(tmp_path / "good")}, {"MARK": str(tmp_path / "bad")}
    (tmp_path / "bad-break").touch()
    options = ["--rounds", 4, "--max-failures", 2, "--join-timeout", 8]
    processes.learner(slow_repo, digits / "part-1", "bad", env=bad)
    processes.learner(slow_repo, digits / "part-2", "bad-2", env=bad)
    processes.learner(slow_repo, digits / "part-0", "good", env=good)
    aggregator = processes.aggregator(slow_repo, *options, "--min-available-clients", 3)
    code = aggregator.wait(60)
    assert code == 4  # three must be present, and two are put aside
    result = json.loads(aggregator.stdout.read())
    assert "1 of 3 learners" in result["error"]
    assert len(result["rounds"]) == 2
    for process in processes.running[:2]:
        processes.finish(process, code=3)
        assert "put aside: it failed in 2 rounds in a row" in processes.stderr(process)


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_can_be_resumed(processes, digits, slow_repo, tmp_path):
    env = {"MARK": str(tmp_path / "x"), "FIT_SECONDS": "0.5"}
    options = ["--rounds", 4, "--min-clients", 1]
    aggregator = processes.aggregator(slow_repo, *options)
    learner = processes.learner(slow_repo, digits / "part-0", "only", env=env)
    wait_until(lambda: len(list(tmp_path.glob("x-fit-*"))) >= 3)
    aggregator.terminate()
    first = processes.result(aggregator, code=130)
    assert first["status"] == "interrupted"

    refused = processes.aggregator(slow_repo, *options)
    processes.finish(refused, code=2)
    assert "--resume" in processes.stderr(refused)
    assert "--fresh" in processes.stderr(refused)

    second = processes.result(processes.aggregator(slow_repo, *options, "--resume"))
    assert second["status"] == "completed"
    assert [r["round"] for r in second["rounds"]] == [1, 2, 3, 4]
    assert second["rounds"][: len(first["rounds"])] == first["rounds"]
    processes.finish(learner)
    assert len(list(tmp_path.glob("x-fit-*"))) == 4  # it delivered what it trained meanwhile

    whole = type(processes)(tmp_path / "whole")
    whole.folder.mkdir()
    try:
        aggregator = whole.aggregator(slow_repo, *options)
        whole.learner(slow_repo, digits / "part-0", "only", env={"MARK": str(tmp_path / "y")})
        assert whole.result(aggregator)["model_sha256"] == second["model_sha256"]
    finally:
        whole.stop()


@pytest.mark.slow
def test_resume_refuses_another_run(processes, digits, run_cli, tmp_path):
    aggregator = processes.aggregator(NUMPY, "--rounds", 1, "--min-clients", 1)
    processes.learner(NUMPY, digits / "part-0", "only")
    processes.result(aggregator)
    code, _, err = run_cli(
        "aggregator", NUMPY, "--output", tmp_path / "run", "--resume", "--seed", 9, "--rounds", 2
    )
    assert code == 2
    assert "seed was 0 and is 9" in err


def test_a_learner_that_is_cut_off_trains_on_and_delivers_without_training_again(
    processes, digits, slow_repo, tmp_path
):
    env = {"MARK": str(tmp_path / "x"), "FIT_SECONDS": "1"}
    aggregator = processes.aggregator(slow_repo, "--rounds", 3, "--min-clients", 1)
    wait_for_port(processes.address)
    proxy = Proxy(processes.address)
    try:
        learner = processes.start(
            "learner", slow_repo, "--aggregator", proxy.address, "--data", digits / "part-0",
            "--learner-id", "only", env=env,
        )  # fmt: skip
        for count in (1, 2):
            _wait_for("x-fit-*", tmp_path, count=count)
            proxy.cut()
        result = processes.result(aggregator)
        processes.finish(learner)
    finally:
        proxy.close()
    assert [r["learners"] for r in result["rounds"]] == [["only"]] * 3
    assert not any(r["failures"] for r in result["rounds"])
    assert len(list(tmp_path.glob("x-fit-*"))) == 3
    assert "disconnected" in processes.stderr(learner)
