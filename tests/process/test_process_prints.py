"""What user code prints: caught at the file descriptors, kept for each learner, bounded."""

import os
import subprocess

import pytest

from flops_fl.errors import UsageError
from flops_fl.process import prints
from flops_fl.process.prints import last_lines, log_of, prints_apart


def test_whatever_prints_ends_in_the_file_of_who_is_at_work(tmp_path, capfd, logger):
    with prints_apart(tmp_path / "made") as apart:
        os.write(1, b"before\n")
        for learner in ("a", "b", "a"):
            with apart.of(learner), apart.of("nested"):
                os.write(1, b"to 1\n")
                os.write(2, f"for {learner}\n".encode())
                subprocess.run(["echo", "child"], check=True)
                logger.warning("ours")
        with apart.of("silent"):
            pass
        os.write(1, b"after\n")
    assert sorted(os.listdir(tmp_path / "made")) == ["a.log", "b.log"]
    assert log_of(tmp_path / "made", "a").read_text() == "to 1\nfor a\nchild\n" * 2
    assert log_of(tmp_path / "made", "b").read_text() == "to 1\nfor b\nchild\n"
    out, err = capfd.readouterr()
    assert out == "before\nafter\n"
    assert err.count("ours") == 3


def test_many_learners_and_much_output_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(prints, "MOST_OPEN", 2)
    before = len(os.listdir("/proc/self/fd"))
    with prints_apart(tmp_path, 100) as apart:
        for turn in range(4):
            for learner in "abcd":
                with apart.of(learner):
                    os.write(1, b"x" * 90)
            assert len(os.listdir("/proc/self/fd")) <= before + 2 + 4, turn
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(os.listdir(tmp_path)) == sorted(
        [f"{name}.log" for name in "abcd"] + [f"{name}.log.1" for name in "abcd"]
    )
    assert log_of(tmp_path, "a").stat().st_size == 180


def test_a_file_that_cannot_be_written_costs_no_training(tmp_path, capfd):
    with prints_apart(tmp_path / "gone") as apart:
        (tmp_path / "gone").rmdir()
        with apart.of("a"):
            print("lost")
    assert "what is printed is lost" in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--log-folder"), prints_apart(tmp_path / "file" / "x"):
        pass


def test_last_lines_are_what_a_terminal_would_show(tmp_path):
    path = tmp_path / "a.log"
    assert last_lines(path, 3) == []
    path.write_text(
        "0\n" * 9000 + "one\r 10%\r 100%\n\n\x1b[1mbold\x1b[0m\n12\x08\x0834\nlast\r\nno end"
    )
    assert last_lines(path, 5) == [" 100%", "bold", "34", "last", "no end"]
