"""Real images of a repository as FLOps' users write it, with all packages, for both platforms."""

import hashlib
import io
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tarfile

import pytest

from flops_fl.images.layout import Layout
from flops_fl.options.render import RenderOptions
from flops_fl.project.render import render
from tests.conftest import EXAMPLES, ROOT, wait_for_port
from tests.images import machine
from tests.images.tiny import MACHINES, PYTHON, commit, git
from tests.project.composed import Composed
from tests.seed import PAGE, seed_repository

# As the contract's page has it, with the line that is not indented like its list.
CONDA = """channels:
  - conda-forge
dependencies:
  - python=3.10.14
  - pip<=24.0
- pip:
  - cloudpickle==3.0.0
  - numpy==1.26.4
  - packaging==24.0
  - psutil==5.9.8
  - pyyaml==6.0.1
  - scikit-learn==1.4.2
  - scipy==1.13.0

name: mlflow-env
"""
LONG = 900

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * LONG),
    pytest.mark.skipif(
        os.geteuid() != 0 or platform.machine() != "x86_64" or PYTHON != "3.11",
        reason="an image is started by chroot, and its pins have wheels for Python 3.11",
    ),
]


def flops_fl(*words):
    """Run a command to its end; gives its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "flops_fl", *map(str, words), "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=LONG, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tool(*words):
    """Run a tool for images that is no part of us, to its end; gives what it prints."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """The contract's page word for word, or the example that is written after it."""
    folder = tmp_path_factory.mktemp("repos") / "mnist"
    if PAGE.exists():
        seed_repository(folder)
    else:
        shutil.copytree(EXAMPLES / "mnist_sklearn", folder)
        (folder / "conda.yaml").unlink()
        (folder / "conda.yml").write_text(CONDA)
    git(folder, "init", "-q")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def built(repo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    base = machine.base(folder / "base")
    words = ("image", repo, "--base", base)
    return folder, words, flops_fl(*words, "--out", folder / "out")


def test_two_builds_have_one_digest(built):
    folder, words, before = built
    again = flops_fl(*words, "--out", folder / "again")
    assert again["images"] == before["images"]


def test_what_is_not_kept_is_named(built):
    _, _, found = built
    assert [each["text"] for each in found["not_kept"]] == [
        "python=3.10.14", "psutil==5.9.8", "pyyaml==6.0.1",
    ]  # fmt: skip


@pytest.mark.parametrize(("where", "expected"), MACHINES.items())
def test_each_shared_object_is_for_its_platform(built, where, expected):
    folder, _, _ = built
    found = dict(machine.machines_of(folder / "out", where))
    assert len(found) > 200
    assert set(found.values()) == {expected}


def name_of(found, role):
    (name,) = [name for name in found["images"] if f"/{role}:" in name]
    return name


def test_skopeo_reads_and_copies_an_image(built, tmp_path):
    folder, _, found = built
    at = f"oci:{folder / 'out'}:{name_of(found, 'learner')}"
    for where in MACHINES:
        architecture = where.partition("/")[2]
        said = json.loads(tool("skopeo", "inspect", "--override-arch", architecture, at))
        assert said["Architecture"] == architecture
        assert said["Labels"]["flops-fl.role"] == "learner"
    tool("skopeo", "copy", "--all", at, f"dir:{tmp_path / 'all'}")
    layout = Layout(folder / "out")
    (top,) = [each for each in layout.index() if each.name == name_of(found, "learner")]
    for manifest in layout.manifests(top):
        for layer in layout.document(manifest.digest)["layers"]:
            assert (tmp_path / "all" / layer["digest"].partition(":")[2]).exists()
    tool("skopeo", "copy", at, f"docker-archive:{tmp_path / 'archive.tar'}:me/mnist:1")
    with tarfile.open(tmp_path / "archive.tar") as archive:
        (said,) = json.load(archive.extractfile("manifest.json"))
        assert said["RepoTags"][0].endswith("me/mnist:1")  # of docker.io, for some versions
        config = json.load(archive.extractfile(said["Config"]))
        digests = [hashlib.file_digest(archive.extractfile(name), "sha256").hexdigest()
                   for name in said["Layers"]]  # fmt: skip
    told = [each["created_by"].rpartition(" ")[2] for each in config["history"]]
    assert told == ["base", "runtime", "dependencies", "code"]  # the base itself has no history
    assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}" for digest in digests]
    shutil.rmtree(tmp_path)


def unpacked(by, built, folder, role):
    """The file system of an image for this machine, and its config."""
    images, _, found = built
    if by == "ours":
        root = folder / "rootfs"
        root.mkdir(mode=0o755)
        return root, machine.unpack(images / "out", root, role)
    at, one = f"oci:{images / 'out'}:{name_of(found, role)}", folder / "one"
    tool("skopeo", "copy", at, f"oci:{one}:{role}")
    tool("umoci", "unpack", "--image", f"{one}:{role}", folder / "bundle")
    (top,) = Layout(one).index()
    config = Layout(one).document(Layout(one).document(top.digest)["config"]["digest"])
    return folder / "bundle" / "rootfs", config["config"]


@pytest.mark.parametrize("by", ["umoci", "ours"])
def test_a_learner_from_its_image_trains(built, repo, tmp_path, processes, digits_28, by):
    root, config = unpacked(by, built, tmp_path, "learner")
    shutil.copytree(digits_28 / "part-0", root / "data")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        config["Env"].append(f"FLOPS_METRICS=127.0.0.1:{probe.getsockname()[1]}")
    with (tmp_path / "log").open("w+") as log:
        learner = machine.start(
            root, config, "66f0", "10.9.0.1", "10.9.0.2", processes.address, "digits", log=log
        )
        try:
            aggregator = processes.aggregator(repo, "--rounds", 3)
            found = processes.result(aggregator)
            health = machine.start(root, {**config, "Entrypoint": ["python", "health.py"]}, log=log)
            assert health.wait(60) == 0
        finally:
            learner.terminate()
            learner.wait(60)
            log.seek(0)
            print(log.read())
    shutil.rmtree(root)
    assert found["status"] == "completed"
    assert len(found["rounds"]) == 3
    assert found["rounds"][-1]["accuracy"] > 0.5


def test_a_data_server_and_a_learner_from_one_image_as_a_rendered_file_starts_them(
    repo, built, tmp_path, processes, digits_28, run_cli
):
    folder, _, _ = built
    sla = {
        "ml_repo_url": str(repo),
        "ml_model_flavor": "sklearn",
        "training_configuration": {"data_tags": ["digits"]},
    }
    (tmp_path / "sla.json").write_text(json.dumps(sla))
    out = tmp_path / "out"
    render(
        RenderOptions(**{"sla": tmp_path / "sla.json", "for": "compose"}, out=out, insecure=True),
        io.StringIO(),
    )
    composed = Composed(out / "compose.yaml", None, processes)
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    config = machine.unpack(folder / "out", root, "learner")
    assert composed.services["learner1"]["image"] in {
        each.name for each in Layout(folder / "out").index()
    }
    with (tmp_path / "log").open("w+") as log:

        def start(name):
            entry, words, environ = composed.command(name)
            env = [*config["Env"], *(f"{key}={value}" for key, value in environ.items())]
            own = {**config, "Entrypoint": entry, "Env": env}
            return own, machine.start(root, own, *words, log=log)

        def ready(own):
            _, python, *words = composed.services["data1"]["healthcheck"]["test"]
            asked = machine.start(root, {**own, "Entrypoint": [python]}, *words, log=log)
            return asked.wait(60) == 0

        own, server = start("data1")
        running = [server]
        try:
            wait_for_port(composed.address("data1", 11027))
            url = f"grpc://{composed.address('data1', 11027)}"
            (part,) = (digits_28 / "part-0").glob("*.parquet")
            put = ("flops_fl", "data", "put", part, "--tag", "digits", "--server")
            assert run_cli(*put, url)[0] == 0
            assert ready(own)
            server.terminate()
            server.wait(60)
            assert not ready(own)
            # To be read from, a data server needs /dev/fd, which only real containers have.
            composed.start("data1")
            wait_for_port(composed.address("data1", 11027))
            assert run_cli(*put, url)[0] == 0
            running.append(start("learner1")[1])
            aggregator = processes.start(
                "aggregator", repo, "--listen", composed.address("aggregator", 8080),
                "--output", tmp_path / "run", "--json", "--no-tracking",
            )  # fmt: skip
            found = processes.result(aggregator)
            assert running[1].wait(60) == 0
        finally:
            for each in running:
                each.kill()
                each.wait()
            log.seek(0)
            print(log.read())
    assert found["rounds"][-1]["learners"] == ["learner1"]


def test_what_is_proposed_has_fewer_packages_and_is_locked(repo, tmp_path, digits_28):
    folder = tmp_path / "mnist"
    shutil.copytree(repo, folder)
    found = flops_fl("deps", folder, "--data", digits_28 / "part-0", "--write")
    kept = {each["text"] for each in found["lines"]}
    assert {"numpy==1.26.4", "scikit-learn==1.4.2", "scipy==1.13.0"} <= kept
    assert {"pyyaml==6.0.1", "psutil==5.9.8"} <= {each["text"] for each in found["removed"]}
    assert found["packages"]["linux/arm64"] > 80
    assert found["mlflow"]  # it lists far more than the code imports
    again = flops_fl("deps", folder)
    assert again["lines"] == found["lines"]
    assert not again["removed"]
    assert not again["not_kept"]
