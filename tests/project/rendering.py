"""A project that is rendered: its SLA and its repository, and the files."""

import io
import json
import shutil

from flops_fl.options.render import RenderOptions
from flops_fl.project.render import render
from tests.conftest import NUMPY

MODES = {"classic": {}, "hierarchical": {"training_cycles": 4}}
SLA = {
    "ml_repo_url": "repo",
    "ml_model_flavor": "sklearn",
    "training_configuration": {"data_tags": ["mnist", "a $(b) $C"], "min_available_clients": 3},
    "resource_constraints": {"memory": 100, "vcpus": 2, "storage": 9000},
}


def with_repo(folder):
    """The folder, with a repository in it that is in no Git."""
    shutil.copytree(NUMPY, folder / "repo")
    return folder


def written(folder, target, mode="classic", sla=None, **options):
    training = SLA["training_configuration"] | {"mode": mode, **MODES[mode]}
    sla = sla or SLA | {"training_configuration": training}
    (folder / "sla.json").write_text(json.dumps(sla))
    out = folder / target
    stdout = io.StringIO()
    words = {"sla": folder / "sla.json", "for": target, "out": out, **options}
    render(RenderOptions(**words), stdout)
    return {file.name: file.read_text() for file in out.iterdir()}
