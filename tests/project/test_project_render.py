"""What `flops-fl project render` writes: read as an orchestrator reads it."""

import json
import re
import shutil

import pytest
import yaml

from flops_fl.errors import UsageError
from flops_fl.images.build import tag_of
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.data import DataServeOptions
from flops_fl.options.learner import LearnerOptions
from flops_fl.options.reading import parse
from flops_fl.options.render import RenderOptions
from flops_fl.project import render as room
from flops_fl.project.services import FILES
from flops_fl.repo.source import checkout
from tests.project.rendering import MODES, SLA, with_repo, written

WORDS = ("sla.json", "--for", "compose", "--out", "out")
TARGETS = ("compose", "kubernetes", "oakestra")
# https://www.oakestra.io/docs/reference/app-sla, with the types of Oakestra's schema.
FIELDS = {
    "microserviceID": str, "microservice_name": str, "microservice_namespace": str,
    "virtualization": str, "code": str, "cmd": list, "environment": list, "memory": int,
    "vcpus": int, "storage": int, "one_shot": bool, "port": str, "addresses": dict,
    "constraints": list, "volumes": list,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return with_repo(tmp_path)


def compose(files):
    document = yaml.safe_load(files["compose.yaml"])
    started = {}
    for name, each in document["services"].items():
        words = [*each.get("entrypoint", ()), *each["command"]]
        started[name] = each["image"], [word.replace("$$", "$") for word in words]
    return started, document


def kubernetes(files):
    objects = [*yaml.safe_load_all(files["federation.yaml"])]
    started = {}
    for each in objects:
        for container in each["spec"].get("template", {}).get("spec", {}).get("containers", ()):
            words = [*container.get("command", ()), *container["args"]]
            words = [word.replace("$(POD_NAME)", "pod").replace("$$(", "$(") for word in words]
            started[f"{each['metadata']['name']} {container['name']}"] = container["image"], words
    return started, objects


def oakestra(files):
    (application,) = json.loads(files["sla.json"])["applications"]
    services = application["microservices"]
    start = ["python", "main.py"]
    return {
        each["microservice_name"]: (
            each["code"],
            each["cmd"][2:] if each["cmd"][:2] == start else each["cmd"],
        )
        for each in services
    }, services


READ = {"compose": compose, "kubernetes": kubernetes, "oakestra": oakestra}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_started_has_the_image_and_the_options_of_its_actor(folder, target, mode):
    files = written(folder, target, mode, registry="registry.example.org/x/", insecure=True)
    started, _ = READ[target](files)
    with checkout(str(folder / "repo")) as repo:
        images = {r: f"registry.example.org/x/{tag_of(repo, r)}" for r in ("learner", "aggregator")}
    server = ["python", "-m", "flops_fl", "data", "serve"]
    found = {"learner": [], "aggregator": []}
    for image, words in started.values():
        if words[:5] == server:
            assert image == images["learner"]
            assert parse(DataServeOptions, "", "", words[5:], {}).listen.port == 11027
            continue
        role = "learner" if "--aggregator" in words else "aggregator"
        assert image == images[role]
        options = {"learner": LearnerOptions, "aggregator": AggregatorOptions}[role]
        found[role].append(parse(options, "", "", ["repo", *words], {}))
    for each in found["learner"]:
        assert each.data_tags == SLA["training_configuration"]["data_tags"]
        assert each.data[0].address.port == 11027
    leader, *clusters = found["aggregator"]
    assert leader.resume
    assert (leader.model_flavor, leader.project_id) == ("sklearn", "repo")
    if mode == "classic":
        assert (leader.role, leader.rounds, leader.min_available_clients) == ("classic", 3, 3)
        assert not clusters
    else:
        assert (leader.role, leader.rounds, leader.min_available_clients) == ("root", 4, 2)
        assert [(c.role, c.rounds, c.min_available_clients) for c in clusters] == [
            ("cluster", 3, 3)
        ] * 2
        assert {str(each.root) for each in clusters} == {
            {"compose": "root:8080", "kubernetes": "repo-root:8080"}.get(
                target, str(clusters[0].root)
            )
        }


def test_compose_gives_each_service_its_own_certificate_and_each_server_a_volume(folder):
    files = written(folder, "compose", "hierarchical")
    _, document = compose(files)
    services = document["services"]
    assert [*services] == [
        *("root", "cluster1", "cluster2"),
        *(f"{kind}{number}" for number in range(1, 7) for kind in ("data", "learner")),
    ]
    for name, each in services.items():
        files_of = {s["target"]: document["secrets"][s["source"]]["file"] for s in each["secrets"]}
        assert [*files_of.values()] == [
            f"./pki/signed/{name}.pem", f"./keys/{name}.key", "./pki/ca.pem",
        ]  # fmt: skip
        named = {f"FLOPS_{option.upper()}" for option in FILES}
        assert {each["environment"][variable] for variable in named} == {*files_of}
        assert each["healthcheck"]["test"][-1] == "/readyz"
        kept = not name.startswith("learner")
        assert each.get("volumes") == ([f"{name}:/app/runs"] if kept else None)
        assert each["restart"] == ("unless-stopped" if name.startswith("data") else "on-failure")
        assert f"enroll {name} --role " in files["certificates.sh"]
    least = services["learner1"]["deploy"]["resources"]
    assert least == {"reservations": {"cpus": "2", "memory": "100M"}}  # the least, no limit
    ports = [port for each in services.values() for port in each.get("ports", ())]
    assert ports == [
        "127.0.0.1:9464:9464", *(f"127.0.0.1:{port}:11027" for port in range(11027, 11033)),
    ]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_kubernetes_ends_aggregators_and_keeps_learners_with_their_data(folder, mode):
    files = written(folder, "kubernetes", mode, learners=4)
    _, objects = kubernetes(files)
    jobs = [each for each in objects if each["kind"] == "Job"]
    sets = [each for each in objects if each["kind"] == "StatefulSet"]
    assert (len(jobs), len(sets)) == ((1, 1) if mode == "classic" else (3, 2))
    claims = {each["metadata"]["name"] for each in objects if "Claim" in each["kind"]}
    for job in jobs:
        pod = job["spec"]["template"]["spec"]
        assert pod["restartPolicy"] == "Never"  # the job makes a new pod, with the same claim
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] in claims
    for each in sets:
        spec = each["spec"]
        pod = spec["template"]["spec"]
        name = each["metadata"]["name"]
        assert (spec["replicas"], spec["podManagementPolicy"]) == (4, "Parallel")
        room = spec["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
        assert room == "9000M"
        data, learner = pod["containers"]
        assert "--stay" in learner["args"]
        assert learner["resources"] == {"requests": {"cpu": "2", "memory": "100M"}}
        assert data["volumeMounts"][0]["mountPath"] == "/app/runs"
        items = {item["path"]: item["key"] for item in pod["volumes"][0]["secret"]["items"]}
        for container in (data, learner):
            probes = [container[kind]["httpGet"]["path"] for kind in (
                "startupProbe", "livenessProbe", "readinessProbe",
            )]  # fmt: skip
            assert probes == ["/healthz", "/healthz", "/readyz"]
            folders = container["volumeMounts"][-1]["subPathExpr"]
            for number in range(4):
                inside = folders.replace("$(POD_NAME)", f"{name}-{number}")
                entries = [items[f"{inside}/{file}"] for file in FILES.values()]
                assert all(f"--from-file={entry}=" in files["certificates.sh"] for entry in entries)
            ports = [port["containerPort"] for port in container["ports"]]
            assert container["livenessProbe"]["httpGet"]["port"] == ports[0]
    assert "--server-side" in files["certificates.sh"]


def test_oakestra_gets_its_documented_fields(folder, caplog):
    files = written(folder, "oakestra", "hierarchical")
    assert "certificates.sh" not in files
    assert "without TLS" in caplog.text
    document = json.loads(files["sla.json"])
    assert (document["sla_version"], document["customerID"]) == ("v2.0", "Admin")
    _, services = oakestra(files)
    for each in services:
        for field, value in each.items():
            assert type(value) is FIELDS[field]
        assert re.fullmatch("[a-zA-Z0-9]{1,10}", each["microservice_name"])
        assert each["cmd"][0] == "python"  # it replaces the image's entry point
        assert each["one_shot"] == (not each["microservice_name"].startswith("data"))
    addresses = [each["addresses"]["rr_ip"] for each in services if "addresses" in each]
    assert len({*addresses}) == len(addresses) == 3 + 6
    assert all(re.fullmatch(r"10\.30\.\d+\.\d+", each) for each in addresses)
    text = files["sla.json"]
    for each in services:
        if each["microservice_name"].startswith("data"):
            assert f"grpc://{each['addresses']['rr_ip']}:11027" in text


@pytest.mark.parametrize("target", TARGETS)
def test_a_repository_with_its_own_data_gets_no_data_servers(folder, target):
    files = written(folder, target, data="none")
    started, _ = READ[target](files)
    assert len(started) == (2 if target == "kubernetes" else 4)  # an aggregator, three learners
    for _, words in started.values():
        assert "serve" not in words
        assert "--data" not in words
    readme = files["README.md"]
    assert "data put" not in readme
    assert not re.search("data server|[Dd]ata stay|dataN|data1|and data|their data", readme)
    assert "-data" not in files.get("certificates.sh", "")


def test_what_an_sla_leaves_out_is_no_option(folder):
    lean = {"ml_repo_url": "repo"}
    started, _ = compose(written(folder, "compose", sla=lean))
    (_, aggregator), _, (_, learner) = started.values()
    assert "--model-flavor" not in aggregator
    assert "--data-tags" not in learner  # it gets all that its server has
    assert "None" not in (*aggregator, *learner)


def test_written_again_it_is_the_same_and_what_others_wrote_stays(folder):
    target = "compose"
    first = written(folder, target)
    (folder / target / "aggregator.env").write_text("A=b\n")
    again = written(folder, target)
    assert again.pop("aggregator.env") == "A=b\n"
    assert again == first
    more = written(folder, target, registry="r.example.org")
    assert more["README.md"] != first["README.md"]

    (folder / target / "README.md").write_text("mine")
    with pytest.raises(UsageError, match=r"README.md would be overwritten, and what stands there"):
        written(folder, target)
    assert (folder / target / "README.md").read_text() == "mine"
    (folder / target / "README.md").unlink()
    assert written(folder, target)["README.md"] == first["README.md"]

    shutil.rmtree(folder / target)
    (folder / target).mkdir()
    (folder / target / "README.md").write_text("mine")
    with pytest.raises(UsageError, match=r"README.md would be overwritten, and what stands there"):
        written(folder, target)


def test_a_folder_is_for_one_orchestrator(folder):
    written(folder, "compose")
    (folder / "compose").rename(folder / "kubernetes")
    with pytest.raises(UsageError, match="has the files for compose: give another folder"):
        written(folder, "kubernetes")


def test_nothing_half_written_is_left(folder, monkeypatch):
    monkeypatch.setattr(room, "RECORD", "no/such/folder")
    with pytest.raises(UsageError, match="cannot be written"):
        written(folder, "compose")
    assert {each.name for each in folder.iterdir()} == {"repo", "sla.json"}


def test_what_does_not_fit_is_refused(folder):
    with pytest.raises(UsageError, match="--clusters 3: the project's mode is classic"):
        written(folder, "compose", clusters=3)
    with pytest.raises(UsageError, match=r"--learners 2: .* min_available_clients is 3"):
        written(folder, "compose", learners=2)
    for wrong in ("https://registry.example.org", "Registry", "a b"):
        with pytest.raises(UsageError, match="--registry .*expected a host"):
            parse(RenderOptions, "", "", [*WORDS, "--registry", wrong], {})
    assert not (folder / "compose").exists()
