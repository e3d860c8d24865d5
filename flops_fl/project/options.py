"""What a project's file means for the commands that do its work, as their options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flops_fl.options.federation import SimulateOptions
from flops_fl.options.images import ImageOptions
from flops_fl.options.project import ProjectRunOptions
from flops_fl.options.reading import build
from flops_fl.options.training import MINIMUMS
from flops_fl.options.use import ServeOptions
from flops_fl.project.sla import BUILD, DEPLOY, Sla
from flops_fl.project.team import Team

IMAGES = "images"
"""The folder in a run's folder where the image of its model is."""
IMAGE = {"base", "cpu", "push"}
"""Options that are the image's, too."""


def federation(sla: Sla, team: Team, options: ProjectRunOptions) -> SimulateOptions:
    """The options of the whole federation, which are those of its root, too.

    Raises:
        UsageError: they do not fit together.
    """
    fields = SimulateOptions.model_fields
    shared = options.model_fields_set & set(fields) - {"data", "json_"}
    leading = sla.leading(len(team.clusters))
    values: dict[str, Any] = {
        **{fields[name].alias or name: getattr(options, name) for name in shared},
        **{name: leading[name] for name in ("rounds", *MINIMUMS)},
        "repo": sla.ml_repo_url,
        "model_flavor": sla.ml_model_flavor,
        "learners": len(team.learners),
    }
    # As many must be available as are started, as FLOps does it: else the first to come begin.
    values["min_available_clients"] = len(team.clusters or team.learners)
    if team.clusters:
        values |= {"clusters": len(team.clusters), "cluster_rounds": sla.training.training_rounds}
    return build(SimulateOptions, values)


def image(sla: Sla, options: ProjectRunOptions, run: Path) -> ImageOptions:
    """The options of the image of a run's model.

    Raises:
        UsageError: they do not fit together.
    """
    values = {
        "repo": str(run),
        "role": "inference",
        "platform": list(sla.supported_platforms),
        "model_flavor": sla.ml_model_flavor,
        "out": run / IMAGES,
        **{name: getattr(options, name) for name in options.model_fields_set & IMAGE},
    }
    return build(ImageOptions, values)


def serving(options: ProjectRunOptions, run: Path) -> ServeOptions:
    """The options of the server of a run's model."""
    return build(
        ServeOptions, {"model": str(run), "listen": options.serve, "insecure": options.insecure}
    )


def notes(sla: Sla) -> Iterator[str]:
    """What a project's file says that has no effect on this machine."""
    if sla.resource_constraints:
        yield "resource_constraints are for containers: processes here are not limited"
    if sla.use_devel_base_images:
        yield "use_devel_base_images is for FLOps' image builder: images here need no such base"
    if sla.deploys_image and not sla.builds_image:
        yield f"{DEPLOY} alone does nothing in FLOps, which needs {BUILD}, too: here it serves"
