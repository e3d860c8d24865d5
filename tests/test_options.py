"""Options: from the line, else the environment, else the default; all mistakes at once."""

import dataclasses
import logging
import re

import pytest

from flops_fl.errors import UsageError
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.check import CheckOptions
from flops_fl.options.data import PartitionOptions
from flops_fl.options.described import GROUPS, LIMITS, WAITING, described, flag
from flops_fl.options.federation import SimulateOptions
from flops_fl.options.help import size, text_of
from flops_fl.options.images import ImageOptions
from flops_fl.options.init import InitRepoOptions
from flops_fl.options.learner import LearnerOptions
from flops_fl.options.pki import EnrollOptions, RequestOptions, SignOptions
from flops_fl.options.plan import PlanOptions
from flops_fl.options.project import ProjectPlanOptions, ProjectRunOptions
from flops_fl.options.reading import parse
from flops_fl.options.use import EvaluateOptions, ExportOptions, RunOptions
from flops_fl.wire.hub.entries import Room
from flops_fl.wire.hub.stage import HubOptions
from flops_fl.wire.line.redial import DialOptions
from tests.conftest import ROOT, unstamped


def aggregator(*argv, **environ):
    return parse(AggregatorOptions, "aggregator", "", argv, environ)


def test_the_line_wins_over_the_environment_which_wins_over_the_default():
    options = aggregator("repo", "--rounds", "7", FLOPS_ROUNDS="5", FLOPS_ROUND_TIMEOUT="2.5")
    assert (options.rounds, options.round_timeout, options.seed) == (7, 2.5, 0)
    assert aggregator(FLOPS_REPO="there", FLOPS_JSON="1").json_


def test_every_limit_of_the_wire_is_an_option_with_its_default():
    hub, line = AggregatorOptions.model_fields, LearnerOptions.model_fields
    options = {"budget": "memory_budget", "patience": "spool_patience"}
    for limits, fields in ((HubOptions, hub), (Room, hub), (DialOptions, line)):
        for entry in dataclasses.fields(limits):
            if isinstance(entry.default, bool) or not isinstance(entry.default, int | float):
                continue
            if entry.name == "backoff":  # the first pause: nobody notices it
                continue
            assert fields[options.get(entry.name, entry.name)].default == entry.default


@pytest.mark.parametrize(
    ("text", "value"),
    [("4096", 4096), ("256MiB", 256 << 20), ("1.5 GB", 3 << 29), ("64k", 64 << 10)],
)
def test_sizes(text, value):
    assert aggregator("r", "--memory-budget", text).memory_budget == value


def test_one_minimum_sets_three_and_each_can_be_set():
    options = aggregator("repo", "--min-clients", "4", "--min-fit-clients", "2")
    minimums = (
        options.min_available_clients,
        options.min_fit_clients,
        options.min_evaluate_clients,
    )
    assert minimums == (4, 2, 4)


@pytest.mark.parametrize("number", ["-1", "10001", "9" * 30])
def test_a_minimum_that_is_none_is_said_once(number):
    with pytest.raises(UsageError) as caught:
        aggregator("repo", "--min-clients", number)
    assert str(caught.value).count("-clients") == 1


def test_a_learners_name_that_nobody_lets_in_is_refused_before_it_dials():
    line = ["r", "--aggregator", "[::1]:80", "--learner-id", "a,ab/../../esc"]
    with pytest.raises(UsageError, match=r"--learner-id 'ab/../../esc': expected 1 to 128 letters"):
        parse(LearnerOptions, "learner", "", line, {})


def test_lists_and_pairs():
    learner = parse(
        LearnerOptions,
        "learner",
        "",
        ["r", "--aggregator", "[::1]:80", "--data-tags", "a,b", "--data-tags", "c"],
        {},
    )
    assert learner.data_tags == ["a", "b", "c"]
    assert (learner.aggregator.host, learner.aggregator.port) == ("::1", 80)
    pairs = ["--strategy-option", "eta=0.1", "--strategy-option", "x-y = true"]
    assert aggregator("r", *pairs).strategy_option == {"eta": 0.1, "x_y": True}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], ["REPO is missing"]),
        (["r", "--rounds", "0", "--seed", "x", "--nope"], ["--rounds 0", "--seed x", "--nope"]),
        (["r", "--rounds"], ["--rounds: expected a value"]),
        (["r", "--rounds", "--seed", "x"], ["--rounds: expected a value", "--seed x"]),
        (
            ["r", "--output", "-x", "--json=1"],
            ["--json: a switch, which takes no value"],
        ),
        (["r", "--rounds", "1000001"], ["--rounds 1000001: expected at most 1,000,000, since"]),
        (
            ["r", "--min-available-clients", "10001"],
            ["--min-available-clients 10001: expected at most 10,000, the most that one"],
        ),
        (["r", "more", "--round", "5"], ["more: not expected", "--round: no such option"]),
        (["r", "--round", "5"], ["did you mean --rounds?"]),
        (["r", "--large-model", "much"], ["--large-model much", "256MiB"]),
        (["r", "--round-timeout", "inf"], ["--round-timeout inf", "finite"]),
        (["r", "--listen", "here"], ["--listen here", "HOST:PORT"]),
        (["r", "--listen", "http://localhost:80"], ["'http://localhost:80' is not an address"]),
        (["r", "--listen", "me@host:80"], ["'me@host:80' is not an address"]),
        (["r", "--listen", "1:2:80"], ["'1:2:80' is not an address"]),
        (["r", "--output", ""], ["--output: expected a value"]),
        (["r", "--strategy-option", "eta=1", "--strategy-option="], ["-option: expected a value"]),
        ([""], ["REPO: expected a value"]),
        (["r", "--tracking-uri", "localhost:5000"], ["a scheme, such as http://localhost:5000"]),
        (["r", "--tracking-uri", "10.0.0.1:5000/x"], ["such as http://10.0.0.1:5000/x"]),
        (["r", "--listen", "0.0.0.0:80"], ["--insecure", "--tls-cert"]),
        (["r", "--fraction-fit", "1.5"], ["--fraction-fit 1.5"]),
        (["r", "--min-fit-clients", "3"], ["--min-available-clients 1", "raise it to 3"]),
        (["r", "--resume", "--fresh"], ["exclude each other"]),
        (["r", "--tls-cert", "none.pem"], ["--tls-cert none.pem", "existing file"]),
        (["r", "--tls-ca", __file__], ["--tls-ca needs --tls-cert"]),
        (["r", "--strategy-option", "x"], ["KEY=VALUE"]),
        (["r", "--strategy-option", "eta=nan"], ["eta is nan, expected a finite number"]),
        (["r", "--strategy-option", "eta=-1e999"], ["eta is -inf, expected a finite number"]),
        (["r", "--strategy-option", "fraction-fit=7"], ["fraction_fit", "use --fraction-fit"]),
        (["r", "--strategy-option", "min_fit_clients=x"], ["use --min-fit-clients"]),
        (["r", "--project-id", "a/b"], ["--project-id a/b"]),
    ],
)
def test_every_mistake_is_named(argv, said):
    with pytest.raises(UsageError) as caught:
        aggregator(*argv)
    for words in said:
        assert words in str(caught.value)
    assert str(caught.value).endswith("See aggregator --help")


def test_another_machine_wants_tls_or_a_loud_word():
    line = ["r", "--aggregator", "10.1.1.1:80"]
    with pytest.raises(UsageError, match="--tls-ca"):
        parse(LearnerOptions, "learner", "", line, {})
    assert parse(LearnerOptions, "learner", "", [*line, "--insecure"], {}).insecure


COMMANDS = [
    AggregatorOptions, LearnerOptions, SimulateOptions, PartitionOptions, RequestOptions,
    SignOptions, EnrollOptions, RunOptions, EvaluateOptions, ExportOptions,
    PlanOptions, CheckOptions, InitRepoOptions, ProjectRunOptions, ProjectPlanOptions,
]  # fmt: skip


def shown(cls, argument, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(cls, "command", "What it does.", ["r", argument], {})
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("cls", COMMANDS)
def test_help_fits_on_a_screen_with_what_is_required_first(cls, capsys):
    lines = shown(cls, "--help", capsys).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    groups = [line[:-1] for line in lines if line[:-1] in GROUPS]
    assert groups[0] == "required"
    assert groups == [group for group in GROUPS if group in groups]


@pytest.mark.parametrize("cls", COMMANDS)
def test_all_help_has_every_option_and_its_default(cls, capsys):
    text = shown(cls, "--help-all", capsys)
    assert max(map(len, text.splitlines())) <= 80
    for name, info in cls.model_fields.items():
        about = described(info)
        assert f"  {about.metavar if about.positional else flag(name)}" in text
        default = info.default
        if isinstance(default, int | float | str) and default and about.metavar != "SIZE":
            assert f"[{default:g}]" if isinstance(default, float) else f"[{default}]" in text


def test_a_default_list_is_shown_as_it_is_typed():
    assert text_of(ImageOptions.model_fields["platform"]).endswith(" [linux/amd64,linux/arm64]")


def test_short_help_says_that_there_is_more(capsys):
    short, whole = (shown(AggregatorOptions, word, capsys) for word in ("-h", "--help-all"))
    assert "--help-all" in short
    assert "--grace" not in short
    assert "--grace" in whole


def test_an_older_name_is_still_taken():
    line = ["digits", "--parts", "2", "--tag", "t", "--out", "o"]
    for words in (["--partition", "dirichlet:1"], ["--scheme", "dirichlet:1"]):
        assert parse(PartitionOptions, "c", "", [*line, *words], {}).partition == "dirichlet:1"
    assert parse(PartitionOptions, "c", "", line, {"FLOPS_SCHEME": "x"}).partition == "x"


def test_a_variable_that_no_command_knows_is_named(caplog):
    with caplog.at_level(logging.WARNING):
        aggregator("r", FLOPS_RUONDS="5", FLOPS_ROUND="5", FLOPS_LEARNER_ID="of another command")
    assert caplog.messages == [
        "FLOPS_ROUND is an option of another command (did you mean FLOPS_ROUNDS?)",
        "FLOPS_RUONDS is no option of any command (did you mean FLOPS_ROUNDS?)",
    ]


def test_an_option_of_this_command_is_meant_before_that_of_another(caplog):
    with caplog.at_level(logging.WARNING):
        aggregator("r", FLOPS_ROUNDZ="5", FLOPS_LEARNER_IDD="x")
    assert caplog.messages == [
        "FLOPS_LEARNER_IDD is no option of any command (did you mean FLOPS_LEARNER_ID?)",
        "FLOPS_ROUNDZ is no option of any command (did you mean FLOPS_ROUNDS?)",
    ]


def test_without_tracking_a_server_is_refused_unless_the_machine_names_it():
    uri = "http://127.0.0.1:5000"
    with pytest.raises(UsageError, match="--no-tracking and --tracking-uri exclude each other"):
        aggregator("r", "--no-tracking", "--tracking-uri", uri)
    with pytest.raises(UsageError, match="exclude each other.*FLOPS_NO_TRACKING=1"):
        aggregator("r", "--tracking-uri", uri, FLOPS_NO_TRACKING="1")
    assert aggregator("r", "--no-tracking", FLOPS_TRACKING_URI=uri).tracking_uri is None
    assert not aggregator("r", FLOPS_NO_TRACKING="yes", FLOPS_TRACKING_URI=uri).tracks
    assert aggregator("r", FLOPS_NO_TRACKING="no", FLOPS_TRACKING_URI=uri).tracking_uri == uri


@pytest.mark.parametrize(
    "command",
    [
        ["flops_fl", "nonsense"],
        ["flops_fl", "simulat", "nowhere"],
        ["flops_fl", "simulate", "nowhere", "--learners", "2"],
        ["flops_fl", "simulate", "examples/numpy_minimal", "--learners", "none"],
        ["flops_fl", "simulate", "examples/numpy_minimal", "--learners", "2", "--data", "wrong"],
        ["flops_fl", "data", "partition", "digits", "--parts", "0", "--tag", "t", "--out", "o"],
    ],
)
def test_commands_answer_in_one_line(run_cli, command):
    code, out, err = run_cli(*command)
    assert code == 2
    assert out == ""
    assert unstamped(err).startswith("error: ")
    assert err.count("\n") == 1


def test_simulate_waits_for_all_its_learners(capsys):
    options = parse(SimulateOptions, "simulate", "", ["r", "--learners", "9"], {})
    assert "a round\n                               starts [--learners]" in shown(
        SimulateOptions, "--help-all", capsys
    )
    from flops_fl.actors.simulation import learner_ids

    assert options.for_aggregator().min_available_clients == 9
    assert learner_ids(11)[-2:] == ["learner-09", "learner-10"]


def test_a_minimum_of_updates_is_judged_by_the_learners_that_simulate_has():
    line = ["r", "--learners", "5", "--min-fit-clients"]
    more = ["3", "--metrics", "127.0.0.1:9100"]
    options = parse(SimulateOptions, "simulate", "", [*line, *more], {}).for_aggregator()
    assert str(options.metrics) == "127.0.0.1:9100"
    assert (options.min_available_clients, options.min_fit_clients) == (5, 3)
    with pytest.raises(UsageError, match="--learners 10001: .* the most that one machine hosts"):
        parse(SimulateOptions, "simulate", "", ["r", "--learners", "10001"], {})
    with pytest.raises(UsageError, match="--min-available-clients 5 is less than the 6"):
        parse(SimulateOptions, "simulate", "", [*line, "6"], {})


def test_the_page_for_operators_has_every_limit_with_its_default():
    page = (ROOT / "docs" / "operation.md").read_text().partition("## Limits")[2]
    rows = set(re.findall(r"^\| (\S+) \| (\S+) \| (\w+) \|", page.partition("\n## ")[0], re.M))
    for cls, whose in ((AggregatorOptions, "aggregator"), (LearnerOptions, "learner")):
        for name, info in cls.model_fields.items():
            if described(info).group not in (LIMITS, WAITING) or info.annotation is bool:
                continue
            value = info.default
            default = size(value) if described(info).metavar == "SIZE" else f"{value or 0:g}"
            row = (f"`{flag(name)}`", default if value else "none")
            found = {who for *cells, who in rows if tuple(cells) == row}
            assert found & {whose, "both"}, (row, whose)
