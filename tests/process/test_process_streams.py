"""Streams on which writing never fails."""

import os
import subprocess
import sys

import pytest

from flops_fl.process.streams import lasting


def test_what_nobody_reads_is_lost_without_an_error():
    read, write = os.pipe()
    with lasting(write, encoding="utf-8", line_buffering=True) as stream:
        stream.write("read\n")
        assert os.read(read, 100) == b"read\n"
        os.close(read)
        for _ in range(3):
            stream.write("lost\n")
        os.write(write, b"lost by others, too")


def test_a_full_disk_is_tried_again():
    with lasting(os.open("/dev/full", os.O_WRONLY), encoding="utf-8") as stream:
        stream.write("lost\n")
        stream.flush()
        with pytest.raises(OSError, match="No space left"):
            os.write(stream.fileno(), b"x")


@pytest.mark.parametrize(("unbuffered", "order"), [("1", "abc"), ("", "bac")])
def test_python_buffers_as_it_was_told_to(unbuffered, order):
    code = (
        "import os, sys; from flops_fl.process.streams import outlive_streams\n"
        "outlive_streams()\n"
        "print('a', end=''); os.write(1, b'b'); sys.stdout.flush(); print('c', end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout == order


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_no_file_gets_the_number_of_a_closed_stream(tmp_path, closed):
    code = (
        "import os, sys, subprocess; from flops_fl.process.streams import outlive_streams\n"
        "outlive_streams()\n"
        "file = open('file', 'w')\n"
        "print('lost'); print('lost', file=sys.stderr); sys.stdout.flush()\n"
        "subprocess.run(['sh', '-c', 'echo lost; echo lost >&2'], check=True)\n"
        "file.write(str(file.fileno()))"
    )
    shut = " ".join(f"{number}>&-" for number in closed)
    subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {shut}', sys.executable, code],
        cwd=tmp_path, check=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert int((tmp_path / "file").read_text()) > 2
