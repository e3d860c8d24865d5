"""Whole images of a tiny repository, with real wheels, by the real uv, without a network."""

import json
import os
import tarfile

import pytest

from flops_fl.errors import UsageError
from flops_fl.images import base as base_images
from flops_fl.images import build as building
from flops_fl.images.layout import INDEX, Layout
from flops_fl.repo.source import checkout
from tests.images import tiny
from tests.images.tiny import PYTHON, SITE, commit, git, names_in


def tarfile_of(folder):
    """The last layer of the first image in a layout."""
    layout = Layout(folder)
    (top, *_) = layout.index()
    inner = layout.document(top.digest)["manifests"][0]
    return tarfile.open(layout.path(layout.document(inner["digest"])["layers"][-1]["digest"]))


def test_an_image_has_a_layer_for_each_pace_of_change(image, tmp_path):
    image()
    (_, runtime, packages, code), config = names_in(tmp_path / "out")
    assert {"app/env/pyvenv.cfg", "app/env/bin/python", f"{SITE}/wire/__init__.py"} <= set(runtime)
    assert f"{SITE}/learner/__main__.py" in runtime
    assert f"{SITE}/frame/inner.py" in packages
    assert f"{SITE}/fast/x.x86_64.so" in packages
    assert {"app/main.py", "app/repo/model_manager.py", "app/repo/conda.yaml"} <= set(code)
    assert config["rootfs"]["diff_ids"][1:]
    assert len(config["rootfs"]["diff_ids"]) == 4
    assert [each["created_by"] for each in config["history"]][1:] == [
        f"flops-fl image: {title}" for title in ("runtime", "dependencies", "code")
    ]


def test_what_an_image_does_not_need_is_not_in_it(image, tmp_path):
    image()
    layers, _ = names_in(tmp_path / "out")
    names = {name for layer in layers[1:] for name in layer}
    for part in ("/uv/", "bin/wire", "tracking", "frame/tests", "mlflow", ".git/"):
        assert not [name for name in names if part in name], part
    assert [name for name in names if "checked/tests/__init__.py" in name]  # it is imported


def test_only_an_aggregator_has_what_tracks(image, tmp_path):
    image()
    layers, _ = names_in(tmp_path / "out", "aggregator")
    assert any("tracking/__init__.py" in name for name in layers[2])
    learners, _ = names_in(tmp_path / "out")
    assert len(layers) == len(learners) + 1


def test_python_files_are_compiled_for_the_bases_python(image, tmp_path):
    image()
    (_, runtime, packages, _), _ = names_in(tmp_path / "out")
    tag = f"cpython-{PYTHON.replace('.', '')}"
    assert f"{SITE}/frame/__pycache__/inner.{tag}.pyc" in packages
    assert f"{SITE}/learner/__pycache__/__main__.{tag}.pyc" in runtime


def test_each_platform_has_its_own_shared_objects(image, tmp_path):
    image()
    for platform, machine in tiny.MACHINES.items():
        layers, _ = names_in(tmp_path / "out", platform=platform)
        found = [name for layer in layers for name in layer if name.endswith(".so")]
        assert [name.rpartition("/")[2] for name in found] == [f"x.{machine}.so"]


def test_two_builds_of_a_commit_have_one_digest(image, repo):
    one = image(out="one")
    for file in repo.iterdir():
        os.utime(file)
    assert image(out="other")["images"] == one["images"]


def test_another_commit_leaves_all_layers_but_the_last(image, repo):
    one = image(out="one")
    (repo / "model_manager.py").write_text("class ModelManager:\n    x = 1\n")
    commit(repo)
    other = image(out="other")
    for before, after in zip(one["manifests"], other["manifests"], strict=True):
        digests = [[each["digest"] for each in at["layers"]] for at in (before, after)]
        assert digests[0][:-1] == digests[1][:-1]
        assert digests[0][-1] != digests[1][-1]


def test_layers_that_are_there_are_not_built_again(image, repo, tmp_path, monkeypatch):
    image()
    (repo / "model_manager.py").write_text("class ModelManager:\n    x = 1\n")
    commit(repo)
    fresh = image(out="other")
    with monkeypatch.context() as patch:
        patch.setattr(building, "build_site", None)  # which would be called for a layer
        again = image()
    assert {**again, "layout": ""} == {**fresh, "layout": ""}

    (repo / "conda.yaml").write_text("dependencies:\n  - pip:\n      - frame==1.0\n")
    layers = names_in(tmp_path / "out")[0][2]
    commit(repo)
    image()
    assert names_in(tmp_path / "out")[0][2] != layers


def test_a_base_is_looked_through_once(image, repo, tmp_path, monkeypatch):
    one = image()
    with monkeypatch.context() as patch:
        patch.setattr(base_images, "_looked_through", None)  # which would be called for a new one
        assert image()["images"] == one["images"]
    other = tiny.base(tmp_path / "other", python=PYTHON, libc=b"GNU C Library version 2.28.")
    (tmp_path / "new").mkdir()
    new, earlier = Layout.create(tmp_path / "new"), Layout(tmp_path / "out")
    found = base_images.fetch_base(str(other), "linux/amd64", new, earlier)
    assert found.uv_platform == "x86_64-manylinux_2_28"


@pytest.mark.parametrize("kind", [b"{", b"\x1f\x8b"])  # documents, or layers
def test_an_earlier_layout_that_is_damaged_is_no_obstacle(image, tmp_path, kind):
    before = image()
    for file in (tmp_path / "out" / "blobs" / "sha256").iterdir():
        if file.read_bytes().startswith(kind):
            file.unlink()  # the base's own is the same file
            file.write_bytes(b"{}")
    assert image()["images"] == before["images"]
    assert all(Layout(tmp_path / "out").holds(f"sha256:{file.name}")
               for file in (tmp_path / "out" / "blobs" / "sha256").iterdir())  # fmt: skip


def test_images_are_called_as_flops_calls_them(image, repo):
    at = git(repo, "rev-parse", "HEAD")
    assert [*image("--role", "both")["images"]] == [
        f"some-one/digits-model/learner:{at}", f"some-one/digits-model/aggregator:{at}",
    ]  # fmt: skip
    (repo / "notes.txt").write_text("new")
    assert [*image("--role", "learner")["images"]] == [
        f"some-one/digits-model/learner:{at}-changes"
    ]


def test_an_image_says_what_it_is(image, repo, tmp_path):
    image("--role", "aggregator", "--model-flavor", "sklearn")
    config = names_in(tmp_path / "out", "aggregator")[1]["config"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.revision"] == git(repo, "rev-parse", "HEAD")
    assert labels["org.opencontainers.image.source"].endswith("Some-One/Digits_Model.git")
    assert labels["org.opencontainers.image.base.name"] == "base:1"
    assert labels["flops-fl.python"] == PYTHON
    assert {"ML_MODEL_FLAVOR=sklearn", "LANG=C.UTF-8", "PATH=/app/env/bin:/usr/local/bin"} <= set(
        config["Env"]
    )
    assert config["Entrypoint"] == ["python", "main.py"]
    assert config["WorkingDir"] == "/app"
    assert config["User"] not in ("", "0", "root", "0:0")
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "/app/health.py"]
    assert "Cmd" not in config


def test_an_actor_in_an_image_knows_its_commit(image, repo, tmp_path):
    image("--role", "learner")
    with tarfile_of(tmp_path / "out") as code:
        code.extractall(tmp_path / "image", filter="data")
    with checkout(str(tmp_path / "image" / "app" / "repo")) as found:
        assert found.commit == git(repo, "rev-parse", "HEAD")
        assert found.source == "https://example.org/Some-One/Digits_Model.git"
        assert found.name == "Digits_Model"


def test_what_is_not_kept_is_said_with_its_line(image):
    assert image()["not_kept"] == [
        {
            "file": "conda.yaml",
            "line": 2,
            "text": "python=3.10.14",
            "why": f"the images have Python {PYTHON}, since flops-fl needs >=3.11",
        },
        {
            "file": "conda.yaml",
            "line": 6,
            "text": "mlflow==2.0",
            "why": "the aggregator has its own MLflow, and learners need none",
        },
    ]


def test_images_are_pushed_once(image, repo):
    with tiny.registry() as kept:
        kept.token = "secret"
        found = image("--push", kept.address)
        top = next(iter(found["images"].values()))
        at = git(repo, "rev-parse", "HEAD")
        assert found["pushed"][0] == f"{kept.address}/some-one/digits-model/learner:{at}@{top}"
        assert json.loads(kept.manifests[at])["mediaType"] == INDEX
        assert any("scope=repository%3Asome-one%2Fdigits-model%2Flearner%3Apull%2Cpush" in call
                   for call in kept.calls)  # fmt: skip
        both = [names for names in kept.places.values() if len(names) == 2]
        assert len(both) == 5  # base and dependencies of each platform, and here one runtime
        sent = [call for call in kept.calls if call.startswith("PUT") and "/uploads/" in call]
        assert len(set(sent)) == len(kept.blobs)  # what both have was sent once
        kept.calls.clear()
        image("--push", kept.address)
        assert not [call for call in kept.calls if call.startswith("POST")]


def test_a_registry_that_cannot_be_used_is_found_before_the_build(image, tmp_path, monkeypatch):
    def not_yet(*_):
        pytest.fail("it builds")

    monkeypatch.setattr("flops_fl.images.command.build", not_yet)
    for wrong in ("https://registry.example.org", "registry.example.org:1/x:2", "/x"):
        with pytest.raises(UsageError, match=rf"^--push {wrong}: expected a registry .*such as"):
            image("--push", wrong)
    with tiny.registry() as kept:
        kept.is_else = True
        with pytest.raises(UsageError, match=rf"^{kept.address} is no registry .*404 Not Found at"):
            image("--push", f"{kept.address}/team")
    with pytest.raises(UsageError, match=r"for --push \(.*refused\): .* or leave --push out"):
        image("--push", kept.address)


def test_a_wheel_of_the_repository_is_installed(image, repo, wheels, tmp_path):
    tiny.wheel(repo / "parts", "own", {"own/__init__.py": ""})
    (repo / "conda.yaml").write_text(
        "dependencies:\n  - pip:\n    - ./parts/own-1.0-py3-none-any.whl\n"
    )
    image()
    (_, _, packages, _), _ = names_in(tmp_path / "out")
    assert any(name.endswith("own/__init__.py") for name in packages)
