"""What a repository should list: from its imports, from MLflow, proved by resolving it."""

import errno
import json
import os
import re
from unittest.mock import Mock

import pytest
from packaging.specifiers import SpecifierSet

from flops_fl.check.report import order_of
from flops_fl.cli import run
from flops_fl.errors import RepositoryError, UsageError
from flops_fl.images import deps, inferring
from flops_fl.images.lock import Lock, Pin, needed_by, parse_pins
from flops_fl.observers import flavors
from flops_fl.options.images import DepsOptions
from flops_fl.repo.environment import read_environment
from flops_fl.repo.runtime import Need
from tests.conftest import EXAMPLES
from tests.images import tiny
from tests.images.tiny import PYTHON, commit, names_in

TIMEOUT = "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT"
LISTED = (
    "name: mine\nchannels: [pytorch, conda-forge]\ndependencies:\n  - python=3.10.14\n"
    "  - cudatoolkit=11\n  - pip:\n    - frame==1.0\n    - wire\n    - checked==1.0\n"
)


@pytest.fixture
def propose(repo, wheels, monkeypatch, capsys):
    """Runs flops-fl deps on a repository that imports frame and fast; gives its JSON."""
    monkeypatch.setattr(deps, "_inferred", lambda *_: (["frame==9", "wire==9", "other==9"], ""))
    monkeypatch.setattr(
        "flops_fl.repo.imports._brings", lambda name: frozenset({"frame": {"wire"}}.get(name, ()))
    )
    (repo / "model_manager.py").write_text("import os\nimport frame\nimport fast\n")
    (repo / "conda.yaml").write_text(LISTED)

    def call(*options):
        run(["deps", str(repo), "--json", *options])
        return json.loads(capsys.readouterr().out)

    return call


def test_each_line_has_its_reason(propose):
    found = propose()
    assert found["lines"] == [
        {"text": "frame==1.0", "why": "model_manager.py line 2 imports frame", "new": False},
        {"text": "wire", "why": "needed by fast, frame", "new": False},
        {"text": "fast==1.0", "why": "model_manager.py line 3 imports fast", "new": True},
    ]
    assert [(each["text"], each["line"]) for each in found["removed"]] == [("checked==1.0", 9)]


def test_what_nothing_else_needs_has_its_reason_too(propose, repo, wheels, monkeypatch):
    tiny.wheel(wheels, "flops_utils", {"flops_utils/__init__.py": ""})
    here = {"frame": {"wire", "checked"}}  # as it is installed here, the index has another one
    monkeypatch.setattr("flops_fl.repo.imports._brings", lambda name: frozenset(here.get(name, ())))
    (repo / "conda.yaml").write_text(f"{LISTED}    - flops-utils\n")
    reasons = {each["text"]: each["why"] for each in propose("--write")["lines"]}
    assert reasons["flops-utils"] == "the contract's classes are in it"
    assert reasons["checked==1.0"] == "as you list it"
    assert not re.search(r"# *$|by *$", (repo / "conda.yaml").read_text(), re.M)


def test_what_cannot_be_kept_is_named(propose):
    found = propose()
    assert {each["text"]: each["why"] for each in found["not_kept"]} == {
        "python=3.10.14": f"the images have Python {PYTHON}, since flops-fl needs >=3.11",
        "cudatoolkit=11": "pip has no such package",
    }
    assert found["notes"][0].startswith("conda.yaml: pytorch is conda's")


def test_a_pin_that_the_runtime_cannot_have_gives_way_to_its_range(propose, repo, monkeypatch):
    need = Need("mlflow-skinny", SpecifierSet(">=1.0"))
    monkeypatch.setattr("flops_fl.repo.runtime.runtime_needs", lambda: {"frame": (need,)})
    (repo / "conda.yaml").write_text(LISTED.replace("frame==1.0", "frame==0.9"))
    found = propose()
    assert {"text": "frame==0.9", "line": 7, "why": "mlflow-skinny needs >=1.0, so frame>=1.0 is "
            "proposed"} in found["not_kept"]  # fmt: skip
    assert found["lines"][0]["text"] == "frame>=1.0"


@pytest.mark.parametrize("channels", [["defaults"], ["mine/label/dev", "nodefaults"], []])
def test_the_channels_stay(propose, repo, channels):
    (repo / "conda.yaml").write_text(LISTED.replace("[pytorch, conda-forge]", str(channels)))
    propose("--write")
    written = read_environment(repo)
    assert list(written.channels) == (channels or ["conda-forge"])


def test_what_mlflow_finds_besides_is_explained(propose):
    assert propose()["mlflow"] == {"other==9": "the code imports it nowhere"}


def test_it_is_proved_for_all_platforms(propose):
    assert propose()["packages"] == dict.fromkeys(tiny.MACHINES, 5)


def test_without_write_nothing_is_written(propose, repo):
    before = sorted(repo.iterdir())
    propose()
    assert sorted(repo.iterdir()) == before
    assert (repo / "conda.yaml").read_text() == LISTED


def test_an_image_takes_exactly_what_was_locked(propose, repo, wheels, tmp_path, capsys):
    assert propose("--write")["written"] == ["conda.yaml", "requirements.lock"]
    commit(repo)
    tiny.wheel(wheels, "frame", {"frame/__init__.py": "newer"}, version="1.0.post1")
    tiny.wheel(wheels, "wire", {"wire/__init__.py": "newer"}, version="2.0")
    base = tiny.base(tmp_path / "base", python=PYTHON)
    words = ["image", str(repo), "--base", str(base), "--out", str(tmp_path / "out"), "--json"]
    run(words)
    assert json.loads(capsys.readouterr().out)["locked"]
    layers, _ = names_in(tmp_path / "out")
    names = {name for layer in layers for name in layer}
    assert any("wire-1.0.dist-info" in name for name in names)
    assert not any("wire-2.0.dist-info" in name for name in names)
    # What is written is proposed again, as it is.
    again = propose()
    assert not again["removed"]
    assert not again["not_kept"]

    (repo / "conda.yaml").write_text(LISTED)
    with pytest.raises(
        RepositoryError, match=r"requirements.lock is older than conda.yaml, .*deps"
    ):
        run(words)


def test_a_file_that_is_not_the_locked_one_is_refused(
    propose,
    repo,
    wheels,
    tmp_path,
    monkeypatch,
):
    propose("--write")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another"))
    tiny.wheel(wheels, "wire", {"wire/__init__.py": "import other"})
    base = tiny.base(tmp_path / "base", python=PYTHON)
    with pytest.raises(UsageError, match="packages for linux/amd64 cannot be had .*[Hh]ash"):
        run(["image", str(repo), "--base", str(base), "--out", str(tmp_path / "out")])


def test_a_lock_for_other_machines_is_named(propose, repo, tmp_path):
    propose("--write", "--platform", "linux/amd64")
    base = tiny.base(tmp_path / "base", python=PYTHON)
    words = ["image", str(repo), "--base", str(base), "--out", str(tmp_path / "out")]
    with pytest.raises(RepositoryError, match="requirements.lock is not for linux/arm64: write it"):
        run(words)
    (repo / "requirements.lock").write_text("frame==1.0\n")
    with pytest.raises(RepositoryError, match="requirements.lock is not written by flops-fl deps"):
        run(words)


def test_a_repository_without_a_dependency_file_gets_one(propose, repo):
    (repo / "conda.yaml").unlink()
    propose("--write")
    text = (repo / "conda.yaml").read_text()
    assert "name: Digits_Model" in text
    assert "- frame==1.0  # model_manager.py line 2 imports frame" in text


def test_a_url_cannot_be_written(wheels):
    with pytest.raises(UsageError, match="expected a folder, which can be written"):
        run(["deps", "https://example.org/me/x.git", "--write"])


@pytest.mark.parametrize("what", ["tempfile.TemporaryFile", "atomic"])
def test_a_repository_that_cannot_be_written_is_one_sentence(propose, repo, monkeypatch, what):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", "conda.yaml.part")

    monkeypatch.setattr(f"flops_fl.images.deps.{what}", read_only)
    said = rf"--write: {repo} cannot be written \(Read-only file system\): .*leave --write out"
    with pytest.raises(UsageError, match=said):
        propose("--write")


def test_code_that_does_not_run_here_is_judged_by_its_imports(repo):
    (repo / "model_manager.py").write_text("import frame\n")
    options = DepsOptions(repo=str(repo))
    found, why = deps._inferred(repo, options)
    assert not found
    assert "frame" in why


@pytest.mark.slow
@pytest.mark.timeout(400)  # four processes that import MLflow
def test_mlflow_is_asked_about_the_model_that_was_trained(tmp_path, digits, capfd):
    options = DepsOptions(repo="", data=digits / "part-0")
    found, why = deps._inferred(EXAMPLES / "mnist_sklearn", options)
    assert "784" in why  # the example's model is for larger images, so a fit was tried
    assert not found
    with pytest.raises(UsageError, match="the data path .* does not exist"):
        deps._inferred(EXAMPLES / "mnist_sklearn", DepsOptions(repo="", data=tmp_path / "parts"))
    found, why = deps._inferred(EXAMPLES / "mnist_sklearn", DepsOptions(repo=""))
    assert any(each.startswith("scikit-learn==") for each in found), why
    assert "mlflow" not in capfd.readouterr().err  # its advice on its own list


def test_mlflow_may_take_as_long_as_a_step_of_code(monkeypatch, tmp_path):
    monkeypatch.setattr(inferring.os, "environ", dict(os.environ))
    os.environ.pop(TIMEOUT, None)
    monkeypatch.setattr(inferring.logging, "disable", lambda _: None)
    monkeypatch.setattr(inferring, "build_model", Mock())
    monkeypatch.setattr(flavors, "inferred_requirements", lambda *_: [os.environ[TIMEOUT]])
    options = DepsOptions(repo="")
    order = order_of(options, tmp_path, str(tmp_path), kind="inferred", limit=600.0)
    inferring.infer(order, report := Mock())
    report.fact.assert_called_with(requirements=["600"])


def test_code_that_ends_its_process_is_judged_by_its_imports(repo):
    (repo / "model_manager.py").write_text("import os\nos._exit(0)\n")
    found, why = deps._inferred(repo, DepsOptions(repo=str(repo)))
    assert (found, why) == ([], "ended its process with exit code 0")


PIN = Pin("numpy", "numpy==2.0", ("sha256:aa", "sha256:bb"), ("pandas",))


def test_a_lock_is_read_as_it_was_written(tmp_path):
    older = Pin("fast", "fast==1", ("sha256:cc",), ())
    newer = Pin("fast", "fast==2", ("sha256:dd",), ())
    wheel = Pin("own", "./own-1.0-py3-none-any.whl", ("sha256:ee",), ())
    pins = {"linux/amd64": [newer, PIN, wheel], "linux/arm64": [older, PIN, wheel]}
    lock = Lock("1234", "3.12", ("--find-links x",), pins)
    (tmp_path / "requirements.lock").write_text(lock.text())
    found = Lock.read(tmp_path / "requirements.lock")
    assert (found.asked, found.python, found.options) == ("1234", "3.12", ("--find-links x",))
    for platform, expected in pins.items():
        assert sorted(found.pins[platform], key=str) == sorted(expected, key=str)
    assert lock.text().count("numpy==2.0") == 1
    assert "fast==1 ; platform_machine == 'aarch64'" in lock.text()


def test_what_uv_prints_is_read():
    text = (
        "numpy==2.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:aa\n    # via\n    #   pandas\n"
        "own @ file:///x/own-1.0-py3-none-any.whl \\\n    --hash=sha256:ee\n"
    )
    text = text.replace("    # via\n    #   pandas\n", "    # via pandas\n")
    assert [pin for pin, _ in parse_pins(text)] == [
        PIN,
        Pin("own", "own @ file:///x/own-1.0-py3-none-any.whl", ("sha256:ee",), ()),
    ]


def test_what_a_package_needs_is_found_through_others():
    pins = [Pin(n, f"{n}==1", (), via) for n, via in (("a", ()), ("b", ("a",)), ("c", ("b", "d")))]
    assert needed_by(["A"], pins) == {"a", "b", "c"}
    assert needed_by(["c", "unknown"], pins) == {"c"}
