"""`flops_fl.open_repository`: a repository's ModelManager for a script or a notebook."""

from __future__ import annotations

import functools
import inspect
import os
import types
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from flops_fl.core.seeding import seed_build
from flops_fl.data.local import DataPlace, Place, place_at
from flops_fl.flower.client import LearnerClient
from flops_fl.process.lines import be_heard
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.loader import Workspace
from flops_fl.repo.source import checkout


def open_repository(
    path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    data_tags: Sequence[str] = (),
    learner: str = "learner",
    seed: int = 0,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
) -> Any:
    """Give a repository's `ModelManager`, built as a learner builds it, with a learner's data.

    Its methods run as on a learner: they find the repository's modules and files, and their working
    folder is a mirror of the repository. ``with open_repository(...) as manager:`` removes that
    folder at its end, except for new files. Without ``with``, it stays until the process ends.
    Within the ``with``, your own code can import the repository's modules, too.

    Args:
        path: A folder, or a Git URL with an optional ``@ref``.
        data: What `load_dataset()` reads: a folder of Parquet or Arrow files, one such file, or
            data servers, such as ``grpc://HOST:PORT``. Without it, `set_model_data()` is not
            called, as on the aggregator.
        data_tags: Load only files named ``TAG.<anything>``; ``{id}`` stands for `learner`.
        learner: The id of a learner; the seed for loading data depends on it.
        seed: The seed of the model's build, as a run's ``--seed``.
        tls_cert: The learner's certificate for data servers, a PEM file.
        tls_key: Its private key, a PEM file.
        tls_ca: The authority of the servers' certificates, a PEM file.

    Raises:
        UsageError, DataError: there is no such repository, or no such data.
        Unreachable, Refused: a data server does not answer, or does not let us in.
        RepositoryError: the repository's code fails, or breaks the contract.
    """
    be_heard()
    stack = ExitStack()
    try:
        repo = stack.enter_context(checkout(os.fspath(path)))
        place = place_at(data, tls_cert=tls_cert, tls_key=tls_key, tls_ca=tls_ca)
        model = built(repo.path, place, data_tags, learner, seed=seed)
    except BaseException:
        stack.close()
        raise
    return in_hand(model, stack)


def built(
    folder: Path,
    data: Place | None,
    data_tags: Sequence[str] = (),
    learner: str = "learner",
    *,
    seed: int = 0,
) -> ManagedModel:
    """A learner's model, with data if `data` is given; see `open_repository`."""
    client = client_for(folder, data, data_tags, learner, seed=seed)
    if data is not None:
        client.attach_data()
    return client.model


def client_for(
    folder: Path, data: Place | None, data_tags: Sequence[str], learner: str, *, seed: int
) -> LearnerClient:
    """A client around a model that has no data yet.

    A learner's own (`build_learner`) also hashes its rows and its state, which others read.
    """
    load = DataPlace(data, data_tags, learner).load
    return LearnerClient(ManagedModel(folder, load, partial(seed_build, seed)), learner)


def in_hand(model: ManagedModel, stack: ExitStack) -> Any:
    """Let the methods of the user's object run in the repository's workspace; returns the object.

    Args:
        stack: Closed together with the workspace; it holds the repository's checkout.
    """
    manager, workspace = model.manager, model.workspace
    whole, entered = ExitStack(), ExitStack()
    whole.enter_context(stack)
    whole.callback(workspace.close)
    weakref.finalize(workspace, stack.close)

    def enter(self: Any) -> Any:
        entered.enter_context(workspace.importable())
        return self

    def leave(self: Any, *error: object) -> None:
        entered.close()
        whole.close()

    theirs = type(manager)
    methods = {name: _at_home(method, workspace) for name, method in _methods(theirs)}
    own: dict[str, Any] = {"__slots__": (), "__module__": theirs.__module__}
    own |= {"__enter__": enter, "__exit__": leave}
    # A subclass of the user's class, so that attributes and isinstance work as they expect.
    manager.__class__ = types.new_class(
        theirs.__name__, (theirs,), exec_body=lambda names: names.update(own | methods)
    )
    return manager


def _methods(cls: type) -> list[tuple[str, Callable[..., Any]]]:
    names = [name for name in dir(cls) if not name.startswith("__")]
    found = ((name, inspect.getattr_static(cls, name)) for name in names)
    return [(name, method) for name, method in found if inspect.isfunction(method)]


def _at_home(method: Callable[..., Any], workspace: Workspace) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        with workspace.active():
            return method(*arguments, **named)

    return call
