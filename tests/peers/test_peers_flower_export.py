"""`flops-fl flower export`: what it refuses, and what it leaves alone."""

import pytest

from flops_fl.cli import run
from flops_fl.errors import UsageError
from tests.conftest import NUMPY


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--strategy", "NoSuch"], "no strategy 'NoSuch': choose from Bulyan"),
        (["--strategy", "FedProx"], "let fit_model take an argument config"),
        (["--strategy", "FedAdam", "--strategy-option", "nosuch=1"], "nosuch"),
    ],
)
def test_a_strategy_that_cannot_be_built_is_refused_before_anything_is_written(
    options, why, run_cli, tmp_path
):
    told = ["--learners", 3, "--out", tmp_path / "app", *options]
    code, out, err = run_cli("flops_fl", "flower", "export", NUMPY, *told)
    assert (code, out) == (2, "")
    assert why in err
    assert not (tmp_path / "app").exists()


def test_an_app_that_cannot_be_written_is_one_sentence_and_can_be_written_later(run_cli, tmp_path):
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "model_manager.py").write_text("import no_such_framework\n")
    told = ["flops_fl", "flower", "export", repo, "--learners", 3, "--out"]
    code, _, err = run_cli(*told, "/proc/self/app")  # which nobody can write, not even root
    assert code == 2
    assert "--out /proc/self/app: the app cannot be written (" in err
    assert "Traceback" not in err
    (repo / "lost").symlink_to("nowhere")  # as on a full disk, shutil collects what it cannot copy
    code, _, err = run_cli(*told, tmp_path / "app")
    assert code == 2
    assert "the app cannot be written ([Errno 2] No such file or directory: " in err
    (repo / "lost").unlink()
    assert run_cli(*told, tmp_path / "app")[0] == 0


def test_a_model_that_needs_more_than_is_here_is_exported_and_the_command_has_its_nodes(
    run_cli, tmp_path
):
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "model_manager.py").write_text("print('user')\nimport no_such_framework\n")
    told = ["--learners", 3, "--out", tmp_path / "app", "--strategy", "FedAdam"]
    code, out, err = run_cli("flops_fl", "flower", "export", repo, *told)
    assert code == 0
    assert "its strategy is not tried" in err
    assert out.split("flwr run ")[1] == (
        f"{tmp_path}/app --stream --federation-config num-supernodes=3\n"
    )
    told[-1] = "NoSuch"
    assert run_cli("flops_fl", "flower", "export", repo, *told)[0] == 2


def test_export_leaves_a_folder_of_something_else_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else"):
        run(
            [
                "flower",
                "export",
                "examples/mnist_sklearn",
                "--learners",
                "2",
                "--out",
                str(tmp_path),
            ]
        )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
