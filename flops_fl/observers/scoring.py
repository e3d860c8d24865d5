"""MLflow's scoring server (``/ping``, ``/invocations``) around a model."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flops_fl.errors import UsageError
from flops_fl.observers.flavors import example_for, save_model
from flops_fl.observers.mlflow_store import configure, hush
from flops_fl.text import innermost, reason, without_secrets


def as_served(model: Any, folder: Path, code_paths: Sequence[str], example: Any = None) -> Any:
    """A user's model as MLflow serves it; see `written`."""
    written(model, folder, code_paths, example)
    from mlflow import pyfunc

    return pyfunc.load_model(str(folder))


def written(
    model: Any,
    folder: Path,
    code_paths: Sequence[str],
    example: Any = None,
    *,
    skops: bool = True,
) -> None:
    """Write a user's model as MLflow loads it.

    Args:
        folder: Where MLflow may write it; it must not exist.
        code_paths: The user's modules, which loading the model may need.
        example: What the model predicts from; None: what the model itself tells.
        skops: See `save_model`.
    """
    configure()
    import mlflow  # noqa: F401  (it sets log levels)

    hush()
    example = example_for(model) if example is None else example
    save_model(model, folder, code_paths, example, skops=skops)


def logged(uri: str, tracking_uri: str | None) -> Any:
    """The model that MLflow has under ``models:/...`` or ``runs:/...``.

    Raises:
        UsageError: it has no such model, or it cannot be loaded here.
    """
    return _from_mlflow(uri, tracking_uri, lambda mlflow: mlflow.pyfunc.load_model(uri))


def fetched(uri: str, tracking_uri: str | None, folder: Path) -> None:
    """Write the files of the model that MLflow has under ``models:/...`` or ``runs:/...``.

    Args:
        folder: Where to; it must not exist.

    Raises:
        UsageError: it has no such model.
    """
    folder.mkdir()
    _from_mlflow(
        uri,
        tracking_uri,
        lambda mlflow: mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)),
    )


def _from_mlflow(uri: str, tracking_uri: str | None, get: Callable[[Any], Any]) -> Any:
    configure()
    import mlflow

    hush()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        return get(mlflow)
    except Exception as error:
        away = isinstance(innermost(error), ConnectionError | TimeoutError | socket.gaierror)
        todo = (
            "start MLflow's server there, or give another --tracking-uri"
            if away
            else "expected models:/NAME@ALIAS, models:/NAME/VERSION or "
            "runs:/ID/logged_model_artifact"
        )
        place = without_secrets(tracking_uri or "MLflow")
        raise UsageError(
            f"{uri} cannot be loaded from {place} ({reason(error)}): {todo}"
        ) from error


def scoring_app(model: Any) -> Any:
    """The server's ASGI application."""
    from mlflow.pyfunc import scoring_server

    return scoring_server.init(model)
