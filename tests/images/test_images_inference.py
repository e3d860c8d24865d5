"""An image that serves a model: what is in it, and that it predicts."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
from contextlib import contextmanager

import numpy as np
import pytest

import flops_fl
from flops_fl.cli import run
from flops_fl.errors import RepositoryError, UsageError
from flops_fl.images import needs
from flops_fl.images.build import Wanted, build
from flops_fl.images.layout import REF_NAME
from flops_fl.images.needs import needs_of_model
from flops_fl.images.served import Served
from flops_fl.project.sla import BUILD
from flops_fl.repo.source import checkout
from tests.conftest import wait_until
from tests.images import machine, standins, tiny
from tests.images.tiny import PYTHON, SITE, git, names_in
from tests.project.test_project_command import project
from tests.trees import free_address
from tests.use.test_use_serve import predict

root_with_umoci = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("umoci"),
    reason="needs root, for chroot, and umoci, which unpacks images",
)


@pytest.fixture
def image(tmp_path, repo, wheels, monkeypatch):
    """Builds an image of a model's folder; gives what `build` gives."""
    monkeypatch.setattr(needs, "SERVING", ("wire",))
    base = tiny.base(tmp_path / "base", python=PYTHON)
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "code" / "model_manager.py").write_text("x = 1\n")

    def call(out="out", python=PYTHON):
        wanted = Wanted(
            roles=("inference",), platforms=("linux/amd64",), base=str(base), flavor="", cpu=False
        )
        listed = needs_of_model("requirements.txt", ["frame==1.0", "mlflow==3.17.2"], tracked=False)
        with checkout(str(repo)) as found:
            served = Served(folder, listed, python, "951c10cbd67a")
            return build(found, wanted, tmp_path / out, served)

    return call


def test_it_has_the_model_and_what_serves_it_and_no_actor(image, tmp_path, repo, caplog):
    caplog.set_level("INFO")
    built = image()
    assert [
        each for each in ("choosing versions, for", "installing 2", "compiling the", "writing the")
        if each not in caplog.text
    ] == []  # fmt: skip
    (_, runtime, packages, model), config = names_in(tmp_path / "out", "inference")
    assert f"{SITE}/wire/__init__.py" in runtime
    assert f"{SITE}/frame/inner.py" in packages
    assert {"app/main.py", "app/health.py", "app/model/MLmodel"} <= set(model)
    assert "app/model/code/model_manager.py" in model
    names = [name for layer in (runtime, packages, model) for name in layer]
    assert not [
        name for name in names if "learner" in name or "tracking" in name or "repo/" in name
    ]
    said = config["config"]
    assert said["Labels"]["flops-fl.role"] == "inference"
    assert said["Labels"]["flops-fl.run"] == "951c10cbd67a"
    assert "FLOPS_LISTEN=0.0.0.0:8080" in said["Env"]
    assert said["ExposedPorts"] == {"8080/tcp": {}}
    at = git(repo, "rev-parse", "HEAD")
    assert [*built.tags] == [f"some-one/digits-model/inference:{at}-951c10cbd67a"]
    assert image("again").tags == built.tags


def test_a_base_of_another_python_cannot_read_its_pickles(image):
    with pytest.raises(
        UsageError, match=rf"has Python {PYTHON}, but the model was written with Python 3.8"
    ):
        image(python="3.8")


def test_what_is_built_from_source_is_refused():
    said = "requirements.txt has git.*, which is built from source"
    with pytest.raises(RepositoryError, match=said):
        needs_of_model("requirements.txt", ["git+https://example.org/x.git"], tracked=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models:/a@b"], "models:/a@b is for --role inference: give that"),
        ([".", "--run", "runs/x"], "--run .*/runs/x is for --role inference: give that"),
        (["models:/a@b", "--role", "inference"], "is in MLflow: say where with --tracking-uri"),
        (["nowhere", "--role", "inference"], "no run in .*nowhere"),
    ],
)
def test_what_cannot_be_meant_is_named(words, said):
    with pytest.raises(UsageError, match=said):
        run(["image", *words])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return machine.base(tmp_path_factory.mktemp("machine") / "base")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # keras' own
@root_with_umoci
@pytest.mark.parametrize(
    ("framework", "output"),
    [
        ("numpy", lambda manager, rows: manager.predict(rows)),
        ("sklearn", lambda manager, rows: manager.model.predict(rows)),
        pytest.param(
            "pytorch", lambda manager, rows: by_torch(manager.model, rows), marks=pytest.mark.torch
        ),
        pytest.param(
            "keras", lambda manager, rows: manager.model.predict(rows), marks=pytest.mark.torch
        ),
    ],
)
def test_it_predicts_what_the_model_predicts(
    framework, output, base, tmp_path, run_cli, monkeypatch
):
    repo, run = tmp_path / "repo", tmp_path / "run"
    done(run_cli("flops_fl", "init", repo, "--framework", framework))
    done(run_cli("flops_fl", "simulate", repo, "--learners", 2, "--rounds", 1, "--data", "digits",
                 "--no-tracking", "--output", run))  # fmt: skip
    words = [run, "--role", "inference", "--base", base, "--platform", "linux/amd64", "--json"]
    if framework in ("pytorch", "keras"):
        index = standins.torch_index(tmp_path)
        words += ["--cpu"] if index is None else []
        for name, value in (index or {}).items():
            monkeypatch.setenv(name, value)
    found = [
        json.loads(done(run_command("image", *words, "--out", tmp_path / out)))
        for out in ("out", "again")
    ]
    assert found[0]["images"] == found[1]["images"]
    packages = {name for each in found[0]["manifests"][0]["layers"] for name in each["packages"]}
    assert "mlflow-skinny" in packages
    assert not packages & {"flwr", "grpcio", "flops-fl", "matplotlib", "mlflow"}

    rows = np.random.default_rng(1).random((3, 64), np.float32)
    with serving(tmp_path / "out", tmp_path / "bundle") as (address, health):
        predicted = predict(f"http://{address}", rows)
        assert health() == 0
    assert health() == 1
    assert np.allclose(predicted, output(flops_fl.load(run), rows), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@root_with_umoci
def test_a_projects_image_and_that_of_its_registered_model_predict_the_same(
    base, tmp_path, run_cli, authority, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of such a store
    repo, run, store = tmp_path / "repo", tmp_path / "run", f"sqlite:///{tmp_path / 'mlflow.db'}"
    done(run_cli("flops_fl", "init", repo, "--framework", "sklearn"))
    sla = project(tmp_path, ml_repo_url=str(repo), post_training_steps=[BUILD],
                  supported_platforms=["linux/amd64"])  # fmt: skip
    done(run_command("project", "run", sla, "--data", "digits=digits", "--output", run, "--base",
                     base, "--register", "digits@champion", "--tracking-uri", store))  # fmt: skip
    done(run_command("image", "models:/digits@champion", "--role", "inference", "--tracking-uri",
                     store, "--base", base, "--platform", "linux/amd64",
                     "--out", tmp_path / "registered"))  # fmt: skip
    rows = np.random.default_rng(1).random((3, 64), np.float32)
    expected = flops_fl.load(run).model.predict(rows)
    with serving(tmp_path / "registered", tmp_path / "bundle") as (address, _):
        assert np.array_equal(predict(f"http://{address}", rows), expected)

    files = {"CERT": "server.pem", "KEY": "server.key", "CA": "authority.pem"}
    content = {f"FLOPS_TLS_{name}": tmp_path / file for name, file in files.items()}
    authority.sign("client")
    trusting = ssl.create_default_context(cafile=tmp_path / "authority.pem")
    with serving(run / "images", tmp_path / "by-tls", content) as (address, _):
        with pytest.raises((OSError, urllib.error.URLError)):  # a client without a certificate
            predict(f"https://{address}", rows, trusting)
        trusting.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        assert np.array_equal(predict(f"https://{address}", rows, trusting), expected)


@contextmanager
def serving(layout, bundle, files=None):
    """Unpack the one image of a layout and start it; gives its address and its health check.

    `files` are put into it, and named by variables of these names.
    """
    (image,) = json.loads((layout / "index.json").read_text())["manifests"]
    name = image["annotations"][REF_NAME]
    unpack = ["umoci", "unpack", "--image", f"{layout}:{name}", bundle]
    subprocess.run(unpack, check=True, capture_output=True)
    config = json.loads((bundle / "config.json").read_text())["process"]
    address = free_address()
    environment = [each for each in config["env"] if not each.startswith("FLOPS_LISTEN=")]
    for name, file in (files or {}).items():
        shutil.copy(file, bundle / "rootfs")
        (bundle / "rootfs" / file.name).chmod(0o644)
        environment.append(f"{name}=/{file.name}")
    how = {
        "Entrypoint": config["args"],
        "WorkingDir": config["cwd"],
        "User": str(config["user"]["uid"]),
        "Env": [*environment, f"FLOPS_LISTEN={address}"],
    }
    with bundle.with_suffix(".log").open("w+") as log:
        server = machine.start(bundle / "rootfs", how, log=log)

        def health():
            check = {**how, "Entrypoint": ["python", "health.py"]}
            return machine.start(bundle / "rootfs", check, log=None).wait(60)

        try:
            wait_until(lambda: health() == 0 or server.poll() is not None, seconds=90)
            yield address, health
        finally:
            server.terminate()
            server.wait(60)
            log.seek(0)
            print(log.read())


def by_torch(model, rows):
    import torch

    model.eval()
    with torch.no_grad():
        return model(torch.from_numpy(rows)).numpy()


def done(result):
    code, out, err = result
    assert code == 0, err
    return out


def run_command(*words):
    """Run flops-fl for as long as an installation takes."""
    command = [sys.executable, "-m", "flops_fl", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    return ended.returncode, ended.stdout, ended.stderr
