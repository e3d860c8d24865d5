"""Environment variables that configure libraries are set before any library is imported."""

import importlib.util
import json
import subprocess
import sys

import pytest

from flops_fl.process.libraries import prepare_libraries
from tests.conftest import ROOT

BUSY = """
import json, os, sys
from flops_fl.process.libraries import prepare_libraries

prepare_libraries(1)

import numpy as np

if sys.argv[1] == "jax":
    import jax

    array = jax.numpy.ones((1200, 1200))
    multiply = jax.jit(lambda x: x @ x / 1200)
else:
    import tensorflow

    array = tensorflow.ones((1200, 1200))
    multiply = tensorflow.function(lambda x: x @ x / 1200)

def ticks():
    tasks = os.listdir("/proc/self/task")
    stats = {task: open(f"/proc/self/task/{task}/stat").read() for task in tasks}
    fields = {task: text.rpartition(")")[2].split() for task, text in stats.items()}
    return {task: int(each[11]) + int(each[12]) for task, each in fields.items()}  # proc(5)

before = ticks()
for _ in range(30):
    array = multiply(array)
    np.asarray(array)
print(json.dumps([after - before.get(task, 0) for task, after in ticks().items()]))
"""


def test_what_the_operator_has_set_stays(monkeypatch):
    monkeypatch.setattr("os.environ", environ := {"OMP_NUM_THREADS": "3"})
    prepare_libraries(2)
    assert environ["OMP_NUM_THREADS"] == "3"
    assert environ["MKL_NUM_THREADS"] == environ["NPROC"] == "2"
    assert environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"


def test_the_folder_where_the_user_stands_is_no_place_for_modules(monkeypatch, tmp_path):
    monkeypatch.setattr("os.environ", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "installed"])
    for _ in range(2):
        prepare_libraries(1)
        assert sys.path == ["installed"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT), "installed"])
    prepare_libraries(1)
    assert sys.path == ["installed", str(ROOT)]


def test_all_cores_is_what_libraries_do_by_themselves(monkeypatch):
    monkeypatch.setattr("os.environ", environ := {})
    prepare_libraries(0)
    assert list(environ) == ["GRPC_ENABLE_FORK_SUPPORT"]


@pytest.mark.slow
@pytest.mark.parametrize("package", ["jax", "tensorflow"])
def test_one_thread_is_busy_where_one_was_asked_for(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    run = [sys.executable, "-c", BUSY, package]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    ticks = json.loads(done.stdout)
    assert max(ticks) > 0.9 * sum(ticks)  # of processor time, whatever else the machine does
