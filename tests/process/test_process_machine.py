"""If the machine runs out of disk or files, an error names what is short and says what to do."""

import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext

import pytest

from flops_fl.errors import FederationError
from flops_fl.process import main as module
from flops_fl.process.answer import Answer
from flops_fl.process.main import run_main


@pytest.fixture(autouse=True)
def no_threads(monkeypatch):
    """No thread that another test has left makes `run_main` end the process of the tests."""
    monkeypatch.setattr(module, "_others", list)


def ending(capsys, error):
    def main():
        raise error

    return run_main(main), capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "text", "said"),
    [
        (errno.ENOSPC, "No space left on device", "no room is left in /tmp/x: make room there"),
        (errno.EMFILE, "Too many open files", r"raise the limit (ulimit -n)"),
        (errno.ENOENT, "No usable temporary directory found in ['/tmp']", "set TMPDIR to one"),
    ],
)
def test_a_sentence_and_no_traceback(capsys, number, text, said):
    code, err = ending(capsys, OSError(number, text, "/tmp/x"))
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_a_full_disk_is_a_sentence_where_no_file_is_named(capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/small")
    full = OSError(errno.ENOSPC, "No space left on device")
    code, err = ending(capsys, full)
    assert code == 2
    assert "no room is left, perhaps in /small: make room there, or set TMPDIR" in err
    code, err = ending(capsys, shutil.Error([("a", "b", str(full))]))
    assert code == 2
    assert "no room is left" in err


def test_another_error_is_a_bug(capsys):
    with pytest.raises(FileNotFoundError):
        ending(capsys, OSError(errno.ENOENT, "No such file or directory", "x"))


def test_a_process_allows_itself_as_many_files_as_it_may():
    code = (
        "import resource; from flops_fl.process.files import allow_many_files as allow\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512)); allow()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 512
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.split() == ["512", "512"]


@pytest.mark.parametrize(
    ("error", "document"),
    [
        (FederationError("nobody"), {"status": "failed", "error": "nobody", "exit_code": 4}),
        (
            KeyboardInterrupt(),
            {"status": "interrupted", "error": "interrupted", "exit_code": 130},
        ),
        (ValueError("x"), {"status": "failed", "error": "ValueError: x", "exit_code": 1}),
    ],
)
def test_one_who_reads_by_machine_gets_one_document_whatever_ends_a_command(error, document):
    for before in ([], [{"status": "failed"}]):  # a failed run's own result
        stream = io.StringIO()
        answer = Answer(stream)
        answer.as_json = True
        stream.close = lambda: None

        def main(before=before, answer=answer):
            for given in before:
                answer.give(given)
            raise error

        with pytest.raises(ValueError) if document["exit_code"] == 1 else nullcontext():
            assert run_main(main, answer) == document["exit_code"]
        assert json.loads(stream.getvalue()) == (before[0] if before else document)
