"""Load the model of a run into its repository's ModelManager, evaluate it, export it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flops_fl.data.local import place_at, place_of
from flops_fl.errors import UsageError
from flops_fl.flower.client import ROUND, SEED
from flops_fl.options.use import EvaluateOptions, ExportOptions
from flops_fl.process.answer import Answer
from flops_fl.process.lines import be_heard
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.source import Checkout, checkout_of, is_url, split_ref
from flops_fl.run.checkpoint import BEST, LAST, Checkpoint, load_checkpoint, load_npz
from flops_fl.run.folder import shown
from flops_fl.run.result import RESULT, RUNNING, read_result, result_document
from flops_fl.types import Array, Layout, Parameters
from flops_fl.use.formats import Home, write_model
from flops_fl.use.repository import built, client_for, in_hand

log = logging.getLogger(__name__)


def load(
    run: str | os.PathLike[str],
    *,
    best: bool = True,
    repo: str | None = None,
    data: str | os.PathLike[str] | None = None,
    data_tags: Sequence[str] = (),
    learner: str = "learner",
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
) -> Any:
    """Give the repository's `ModelManager` with the parameters that a run has trained.

    The repository is the run's, at the run's commit. The other arguments are those of
    `open_repository`.

    Args:
        run: The run's folder, such as ``runs/NAME``.
        best: Whether to take the model of the best round, or else that of the last.
        repo: Where the repository is now, if it has moved: a folder or a Git URL.

    Raises:
        UsageError, DataError: there is no such run, model, repository or data, or the model does
            not fit the repository.
        RepositoryError: the repository's code fails.
    """
    be_heard()
    found = read_run(Path(run), best=best)
    stack = ExitStack()
    try:
        at = stack.enter_context(found.repository(repo))
        place = place_at(data, tls_cert=tls_cert, tls_key=tls_key, tls_ca=tls_ca)
        model = built(at.path, place, data_tags, learner, seed=found.seed)
        found.require_fit(model.layout)
        model.load(found.parameters)
    except BaseException:
        stack.close()
        raise
    return in_hand(model, stack)


def evaluate(options: EvaluateOptions, answer: Answer) -> None:
    """Evaluate a run's model with the seeds of its round, and print the figures.

    Raises:
        FlopsError: see `load`.
    """
    answer.apart()
    found = read_run(options.run, best=not options.last)
    with found.repository(options.repo) as repo:
        place = place_of(options)
        client = client_for(repo.path, place, options.data_tags, options.learner, seed=found.seed)
        with closing(client.model):
            client.attach_data()
            found.require_fit(client.model.layout)
            draws = {SEED: found.seed, ROUND: found.round}
            loss, examples, metrics = client.evaluate(found.parameters, draws)
        figures = {"loss": loss, "accuracy": metrics["accuracy"], "examples": examples}
        text = ", ".join(
            f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in figures.items()
        )
        which = {"run": str(options.run), "run_id": found.run_id, "model": found.name}
        document = {**which, "round": found.round, **figures}
        if options.json_:
            answer.give(document)
        else:
            print(f"{text} ({found})", file=answer.apart())


def export(options: ExportOptions, answer: Answer) -> None:
    """Write a run's model in its framework's own format, and print the lines that load it.

    Raises:
        FlopsError: see `load`; also if the file exists, or its ending does not fit the model.
    """
    answer.apart()
    found = read_run(options.run, best=not options.last)
    if options.out.exists() and not options.force:
        raise UsageError(f"--out {options.out} is there: choose another name, or give --force")
    out = options.out.absolute()  # user code has another working folder
    log.info("writing %s", found)
    with found.repository(options.repo) as repo:
        place = place_of(options)
        model = built(repo.path, place, options.data_tags, options.learner, seed=found.seed)
        with closing(model):
            found.require_fit(model.layout)
            model.load(found.parameters)
            opened = found.home(options.repo, repo)
            home = Home(model, found.parameters, opened, data=options.data is not None)
            lines = write_model(home, out, str(options.out))
        print(*lines, sep="\n", file=answer.apart())


@dataclass(frozen=True, kw_only=True, slots=True)
class RunModel:
    """A model in a run's folder, with the run's result."""

    folder: Path
    best: bool
    result: dict[str, Any]
    parameters: list[Array]

    def __str__(self) -> str:
        return f"the {self.name} model of {shown(self.folder)}, round {self.round}"

    @property
    def name(self) -> str:
        return "best" if self.best else "last"

    @property
    def run_id(self) -> str:
        return str(self.result.get("run_id"))

    @property
    def seed(self) -> int:
        """The seed under which the run's models were built."""
        return int(self.result.get("seed") or 0)

    @property
    def round(self) -> int:
        """The round that made the model; 0 for the initial model."""
        rounds = self.result.get("rounds") or [{}]
        record = (self.result.get("best") or {}) if self.best else rounds[-1]
        return int(record.get("round") or 0)

    def repository(self, moved: str | None) -> AbstractContextManager[Checkout]:
        """Check out the repository at the run's commit; see `repository_of`."""
        return repository_of(self.folder, self.result, moved)

    def home(self, moved: str | None, repo: Checkout) -> str:
        """An expression of Python that opens the repository, from any working folder."""
        if is_url(repo.source):
            place = f"{split_ref(repo.source)[0]}@{repo.commit}"
        elif repo.path == Path(repo.source).resolve():
            place = str(repo.path)
        else:  # the folder is at another commit, so `load` must check out the run's
            there = "" if moved is None else f", repo={str(Path(moved).absolute())!r}"
            which = "" if self.best else ", best=False"
            return f"flops_fl.load({str(self.folder)!r}{which}{there})"
        return f"flops_fl.open_repository({place!r})"

    @contextmanager
    def importable(self, repo: Path) -> Iterator[ManagedModel]:
        """The repository's model with these parameters, while its modules are found by name.

        Raises:
            UsageError: the model does not fit the repository.
            RepositoryError: the repository's code fails.
        """
        model = built(repo, None, seed=self.seed)
        with closing(model):
            self.require_fit(model.layout)
            model.load(self.parameters)
            with model.workspace.importable():
                yield model

    def require_fit(self, layout: Layout) -> None:
        """Check that the model has the layout of the repository's.

        Raises:
            UsageError: it has another one.
        """
        require_fit(f"{self} does not fit its repository", self.parameters, layout)


def require_fit(said: str, parameters: Parameters, layout: Layout) -> None:
    """Check that parameters of a run have the layout of its repository's model.

    Args:
        said: How the message begins.

    Raises:
        UsageError: they have another one.
    """
    difference = layout.difference(Layout.of(parameters))
    if difference:
        raise UsageError(
            f"{said} ({difference}): give --repo with the repository as the run had it"
        )


@contextmanager
def repository_of(folder: Path, result: Mapping[str, Any], moved: str | None) -> Iterator[Checkout]:
    """Check out the repository of a run at the run's commit.

    Args:
        folder: The run's folder, with this result.json.
        moved: Where the repository is now, if it has moved.

    Raises:
        UsageError, RepositoryError: the repository is not there, or Git fails.
    """
    said = result.get("repo") or {}
    then = said.get("folder")  # absolute; the source is relative where it was typed so
    source = moved or str(then if then and Path(then).is_dir() else said.get("source"))
    if moved is None and not (is_url(source) or Path(source).is_dir()):
        raise UsageError(
            f"the repository of {shown(folder)} was {source!r}, which is no folder here: "
            "say where it is with --repo, a folder or a Git URL"
        )
    with checkout_of(source, said.get("commit")) as repo:
        yield repo


def result_of(run: Path) -> dict[str, Any]:
    """Read the result.json of a run's folder, which also a run at work has.

    Raises:
        UsageError: the folder is no run's.
    """
    return _read(run)[0]


def _read(run: Path) -> tuple[dict[str, Any], Checkpoint | None]:
    """See `result_of`; also the newest checkpoint of a run that is at work, or was killed."""
    result, found = read_result(run), None
    if not result:
        raise UsageError(
            f"no run in {shown(run)} ({RESULT} is not there, or is damaged): expected a run's "
            "folder, such as runs/NAME"
        )
    if result.get("status") == RUNNING and (found := load_checkpoint(run)):
        # At work, or killed: result.json has its rounds only at the end.
        rounds = (*found.history, *filter(None, [found.pending]))
        so_far = result_document(found.run, replace(found.state, history=rounds), status=RUNNING)
        result |= {name: so_far[name] for name in ("initial", "rounds", "best")}
    return result, found


def read_run(run: Path, *, best: bool) -> RunModel:
    """Read the best or the last model of a run's folder.

    Raises:
        UsageError: the folder is no run's, or has no such model.
    """
    folder = run.absolute()
    result, found = _read(folder)
    name = BEST if best else LAST
    if (folder / name).exists():
        parameters = load_npz(folder / name)
    elif not best and (found := found or load_checkpoint(folder)):
        parameters = found.parameters
    else:
        why = "no round was evaluated" if best else f"its status is {result.get('status')}"
        other = "the last model: --last, or in Python best=False" if best else "the best model"
        raise UsageError(f"{run} has no {name} ({why}): take {other}")
    read = RunModel(folder=folder, best=best, result=result, parameters=parameters)
    if read.round == 0 and result.get("rounds") is not None:
        log.warning("%s: the initial model, since no round is done", read)
    return read
