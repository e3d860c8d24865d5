"""What `make demo` does."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_demo_runs(run_cli):
    # With the files it leaves in runs/, as a user has them.
    done = subprocess.run(
        [sys.executable, "examples/demo.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy 0.9" in done.stdout
    assert (ROOT / "runs/demo/history.png").read_bytes().startswith(b"\x89PNG")
