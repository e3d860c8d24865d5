"""Real repositories, real data and real processes for the tests that want them."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest

from tests.certificates import authority, pki  # noqa: F401 - fixtures
from tests.trees import LEARNERS, Tree, free_address

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NUMPY = EXAMPLES / "numpy_minimal"
LIMIT = 90  # seconds that any process of a test may take

# An example that takes long says something about the machine, not about the code.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")


def pytest_collection_modifyitems(items):
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        for item in items:
            if item.get_closest_marker("torch"):
                item.add_marker(pytest.mark.skip(reason="torch is not installed"))


@pytest.fixture(autouse=True)
def logger():
    """Ours, after each test as it was before."""
    ours = logging.getLogger("flops_fl")
    kept = ours.handlers[:], ours.level, ours.propagate
    yield ours
    ours.handlers[:], ours.level, ours.propagate = kept


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Folder with three learners' digits, 8 x 8: part-0, part-1, part-2; tag ``digits``."""
    from flops_fl.data.command import partition_command

    folder = tmp_path_factory.mktemp("digits")
    partition_command("digits", 3, "digits", folder)
    return folder


class Processes:
    """Aggregators and learners as processes; all gone when the test ends."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []
        self.address = free_address()

    def start(self, module, *arguments, env=None, wrapper=()):
        log = (self.folder / f"{module}-{len(self.running)}.log").open("w+")
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(env or {})},
        )
        process.log = log
        self.running.append(process)
        return process

    def aggregator(self, repo, *options, tracking=False):
        more = [] if tracking else ["--no-tracking"]
        return self.start(
            "aggregator", repo, "--listen", self.address, "--output", self.folder / "run",
            "--json", *more, *options,
        )  # fmt: skip

    def learner(self, repo, data, name, *options, env=None):
        return self.start(
            "learner", repo, "--aggregator", self.address, "--data", data, "--learner-id", name,
            *options, env=env,
        )  # fmt: skip

    def finish(self, process, code=0):
        """Wait for a process; what it said on stdout."""
        out, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == code, self.stderr(process)
        return out

    def result(self, aggregator, code=0):
        return json.loads(self.finish(aggregator, code))

    def stderr(self, process):
        process.log.flush()
        return Path(process.log.name).read_text()

    def stop(self):
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            process.log.close()


@pytest.fixture
def processes(tmp_path):
    started = Processes(tmp_path)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def run_cli():
    """Run a module to its end: exit code, stdout, stderr."""

    def run(module, *arguments, env=None, cwd=ROOT):
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env={**os.environ, **(env or {})},
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def without_colour(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def unstamped(text):
    """Lines of a log without the time that each begins with."""
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", text, flags=re.MULTILINE)


def wait_for_port(address, seconds=40):
    host, _, port = address.rpartition(":")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens on {address}")


def wait_until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="session")
def digits_28(tmp_path_factory):
    """The same at 28 x 28, which the scikit-learn example's model is made for."""
    from flops_fl.data.command import partition_command

    folder = tmp_path_factory.mktemp("digits-28")
    partition_command("digits", 3, "digits", folder, resize=28)
    return folder


SLOW_FIT = """
import os, time
from model_manager_plain import ModelManager as Plain

class ModelManager(Plain):
    def fit_model(self):
        open(os.environ["MARK"] + f"-fit-{os.getpid()}-{time.monotonic_ns()}", "w").close()
        time.sleep(float(os.environ.get("FIT_SECONDS", "0")))
        if os.path.exists(os.environ["MARK"] + "-break"):
            raise RuntimeError("this learner is broken")
        return super().fit_model()
"""


@pytest.fixture
def slow_repo(tmp_path):
    """The NumPy example, with fits that leave a mark and take as long as they are told."""
    folder = tmp_path / "repo"
    folder.mkdir()
    plain = (NUMPY / "model_manager.py").read_text()
    (folder / "model_manager_plain.py").write_text(plain)
    (folder / "data_manager.py").write_text((NUMPY / "data_manager.py").read_text())
    (folder / "model_manager.py").write_text(SLOW_FIT)
    return folder


@pytest.fixture(scope="session")
def quarters(tmp_path_factory):
    """A folder with four learners' digits, of unequal number; each learner's id is its tag."""
    from flops_fl.data.partition import write_partitions
    from flops_fl.data.sources import load_source

    folder = tmp_path_factory.mktemp("quarters")
    write_partitions(load_source("digits"), LEARNERS, folder, scheme="dirichlet:1", seed=3)
    return folder


@pytest.fixture
def tree(processes, quarters):
    return Tree(processes, quarters, NUMPY)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of some KiB; gives its folder."""
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(size):
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(words, check=False).returncode:
            pytest.skip("no disk can be mounted here")
        return folder

    yield mount
    subprocess.run(["umount", folder], check=False, capture_output=True)
