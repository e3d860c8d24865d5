"""``flops-fl project run``: trains a project's model on this machine, then does its other steps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from flops_fl.actors.lead import DONE
from flops_fl.actors.simulation import federate
from flops_fl.images.base import require_base
from flops_fl.images.command import build_images
from flops_fl.images.push import require_registry
from flops_fl.net.listening import bound
from flops_fl.options.project import ProjectRunOptions
from flops_fl.process.answer import Answer
from flops_fl.process.signals import raise_on_signals
from flops_fl.project import options as asked
from flops_fl.project.plan import plan, script, summary
from flops_fl.project.sla import BUILD, DEPLOY, Sla, read_sla
from flops_fl.project.team import team_of
from flops_fl.run.folder import shown
from flops_fl.use.serve import require_mlflow, serve

log = logging.getLogger(__name__)


def run_project(options: ProjectRunOptions, answer: Answer) -> int:
    """Train, build the image of the model and serve it, as the project's file says.

    Returns:
        The exit code: 0 done, 130 interrupted.

    Raises:
        UsageError: the file has mistakes, or the options do not fit to it; nothing has started.
        FlopsError: the federation failed, or a later step.
    """
    raise_on_signals()
    sla = read_sla(options.sla)
    team = team_of(sla, options)
    whole = asked.federation(sla, team, options)
    _require(sla, options)
    if options.json_:
        answer.apart()
    if sla.verbose:  # with the notes in it
        by_hand = script(sla, team, list(plan(sla, team, options)))
        log.info("%s", "\n".join(["by hand this would be", *by_hand]))
    else:
        log.info("training %s", summary(sla, team))
        for note in asked.notes(sla):
            log.info("%s", note)
    team.require_data(options)
    document: dict[str, Any] = {}

    def ended(folder: Path, result: dict[str, Any]) -> None:
        document.update(result, folder=str(folder), image=None, serves=None)
        answer.keep(document)
        if options.json_ and result["status"] != DONE:
            answer.give(document)

    minimums = sla.training.minimums
    code = federate(whole, team.shares(options), answer, minimums=minimums, on_end=ended)
    if code == 0:
        _follow(sla, options, document, answer)
    return code


def _require(sla: Sla, options: ProjectRunOptions) -> None:
    """Find now what would make a later step fail.

    Raises:
        UsageError: there is such a thing.
    """
    if sla.builds_image:
        image = asked.image(sla, options, Path("run"))
        require_base(image.base, image.platform)
        if image.push:
            require_registry(image.push)
    if sla.deploys_image:
        require_mlflow()
        with bound(options.serve, "--serve"):
            pass


def _follow(sla: Sla, options: ProjectRunOptions, document: dict[str, Any], answer: Answer) -> None:
    """Do the steps after the training."""
    folder = Path(document["folder"])
    if sla.builds_image:
        wanted = asked.image(sla, options, folder)
        log.info("%s: in %s", BUILD, shown(wanted.out))
        build_images(wanted, Answer())
        document["image"] = str(wanted.out)

    def ready(url: str | None = None) -> None:
        document["serves"] = url
        if options.json_:
            answer.give(document)

    if sla.deploys_image:
        log.info("%s: on %s, until Ctrl-C", DEPLOY, options.serve)
        serve(asked.serving(options, folder), option="--serve", ready=ready)
    else:
        ready()
