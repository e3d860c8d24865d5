"""What the machine has too little of is named, with what to do."""

import errno
import os
import resource
import subprocess
import sys

import pytest

from flops_fl.process.main import run_main


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
