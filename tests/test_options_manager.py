"""The FLOps manager's arguments, as it gives them, and the options that they become."""

import pytest

from flops_fl.errors import UsageError
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.learner import LearnerOptions
from flops_fl.options.manager import from_manager
from flops_fl.options.reading import parse

CLASSIC = "66f0 10.9.0.1 10.9.0.2 http://10.9.0.3:7027 CLASSIC_AGGREGATOR 5 4 3 2"
ROOT = CLASSIC.replace("CLASSIC", "ROOT")
CLUSTER = CLASSIC.replace("CLASSIC", "CLUSTER") + " 10.9.0.4"
LEARNER = "66f0 10.9.0.1 10.9.0.2 10.9.0.4 mnist,fashion"


def words(role, text, tmp_path, **environ):
    return from_manager(role, text.split(), environ, data=tmp_path)


@pytest.mark.parametrize(
    ("role", "text", "environ", "expected"),
    [
        (
            "aggregator",
            CLASSIC,
            {},
            "--project-id 66f0 --role classic --rounds 5 --min-available-clients 4 "
            "--min-fit-clients 3 --min-evaluate-clients 2 --tracking-uri http://10.9.0.3:7027 "
            "--listen 0.0.0.0:8080 --insecure --notify mqtt://10.9.0.1,tcp://10.9.0.2",
        ),
        (
            "aggregator",
            f"{ROOT} --track-locally --deactivate-notifications",
            {"ML_MODEL_FLAVOR": "pytorch", "FLOPS_LISTEN": "0.0.0.0:9000"},
            "--project-id 66f0 --role root --rounds 5 --min-available-clients 4 "
            "--min-fit-clients 3 --min-evaluate-clients 2 --model-flavor pytorch --insecure",
        ),
        (
            "aggregator",
            CLUSTER,
            {"FLOPS_TLS_CERT": "c.pem", "FLOPS_NOTIFY": "https://elsewhere"},
            "--project-id 66f0 --role cluster --rounds 5 --min-available-clients 4 "
            "--min-fit-clients 3 --min-evaluate-clients 2 --root 10.9.0.4:8080 "
            "--connect-timeout 3600 --listen 0.0.0.0:8080",
        ),
        (
            "learner",
            LEARNER,
            {"FLOPS_DATA": "/elsewhere"},
            "--project-id 66f0 --aggregator 10.9.0.4:8080 --data-tags mnist,fashion "
            "--connect-timeout 3600 --stay --insecure --notify mqtt://10.9.0.1,tcp://10.9.0.2",
        ),
        (
            "learner",
            LEARNER.replace("10.9.0.4", "fd00::4").replace("10.9.0.2", "fd00::2"),
            {"FLOPS_DATA": "/x", "FLOPS_CONNECT_TIMEOUT": "9", "FLOPS_TLS_CA": "ca.pem"},
            "--project-id 66f0 --aggregator [fd00::4]:8080 --data-tags mnist,fashion --stay "
            "--notify mqtt://10.9.0.1,tcp://[fd00::2]",
        ),
    ],
)
def test_the_managers_arguments_become_options(tmp_path, role, text, environ, expected):
    assert words(role, text, tmp_path, **environ).options == expected.split()


def test_a_learners_data_are_where_a_nodes_files_are_mounted(tmp_path):
    options = words("learner", LEARNER, tmp_path).options
    assert options[options.index("--data") + 1] == str(tmp_path)


@pytest.mark.parametrize(("role", "text"), [("aggregator", t) for t in (CLASSIC, ROOT, CLUSTER)])
def test_the_options_are_those_of_an_aggregator(tmp_path, role, text):
    options = words(role, text, tmp_path, ML_MODEL_FLAVOR="keras").options
    found = parse(AggregatorOptions, "main.py", "", ["repo", *options], {})
    assert (found.rounds, found.min_available_clients, found.min_fit_clients) == (5, 4, 3)
    assert (found.project_id, found.min_evaluate_clients) == ("66f0", 2)
    assert found.model_flavor == "keras"
    assert not found.listen.loopback
    assert found.tracks == (found.role != "cluster")
    assert list(map(str, found.notify)) == ["mqtt://10.9.0.1:9027", "tcp://10.9.0.2:2727"]


def test_the_options_are_those_of_a_learner(tmp_path):
    options = words("learner", LEARNER, tmp_path).options
    found = parse(LearnerOptions, "main.py", "", ["repo", *options], {})
    assert str(found.aggregator) == "10.9.0.4:8080"
    assert (found.data, found.data_tags, found.stay) == (tmp_path, ["mnist", "fashion"], True)


def test_what_is_not_done_is_said(tmp_path):
    (note,) = words("aggregator", CLUSTER, tmp_path).notes
    assert note.startswith("nothing is tracked at http://10.9.0.3:7027: the root")


@pytest.mark.parametrize(
    ("role", "text", "said"),
    [
        ("aggregator", "66f0", "1 arguments .* expected 9, .*: PROJECT-ID MQTT-BROKER OBSERVER"),
        ("aggregator", f"{CLASSIC} 1.2.3.4", "10 arguments .* expected 9"),
        ("aggregator", CLUSTER.rpartition(" ")[0], "9 arguments .* expected 10, .*ROOT-AGGREGATOR"),
        ("aggregator", CLASSIC.replace("CLASSIC_", ""), "the aggregator type AGGREGATOR: expected"),
        ("aggregator", f"{CLASSIC} --fast", "--fast after the FLOps manager's arguments"),
        ("learner", "66f0 a b c", "4 arguments .* expected 5, .*DATA-TAGS"),
        ("learner", f"{LEARNER} --track-locally", "--track-locally after"),
        ("learner", LEARNER.replace("10.9.0.4", "host:port"), "'host:port' is not an address"),
    ],
)
def test_other_arguments_are_refused(tmp_path, role, text, said):
    with pytest.raises(UsageError, match=said):
        words(role, text, tmp_path)


@pytest.mark.parametrize(
    ("environ", "url"),
    [({}, "grpc://172.17.0.1:11027"), ({"FLOPS_TLS_CA": __file__}, "grpc+tls://172.17.0.1:11027")],
)
def test_a_learner_that_is_told_of_no_data_asks_the_nodes_server(tmp_path, environ, url):
    start = from_manager("learner", LEARNER.split(), environ, data=tmp_path / "none")
    found = parse(LearnerOptions, "main.py", "", ["repo", *start.options], environ)
    assert [str(server) for server in found.data] == [url]
    (note,) = start.notes
    assert note.startswith(f"the data are read from the node's data server, {url}: set FLOPS_DATA")
