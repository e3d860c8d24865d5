"""Logs a model with the MLflow flavor of its framework."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from flops_fl.errors import UsageError
from flops_fl.process.temporary import temporary_folder
from flops_fl.types import Array

ARTIFACT = "logged_model_artifact"
"""Name of the trained model in the run of the best round; FLOps looks for it there."""

_BY_MODULE = {
    "sklearn": "sklearn",
    "torch": "pytorch",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
}
_MLFLOW_MODULE = {"keras": "tensorflow"}  # since MLflow 2 mlflow.tensorflow logs keras models
_HELD = Path(__file__).with_name("held.py")


def flavor_of(model: Any) -> str | None:
    """The flavor of the framework of a model's class, or of one of its base classes."""
    for cls in type(model).__mro__:
        flavor = _BY_MODULE.get(cls.__module__.partition(".")[0])
        if flavor:
            return flavor
    return None


def check_flavor(flavor: str | None, model: Any) -> None:
    """Check before training that the model can be logged with the chosen flavor.

    Raises:
        UsageError: the model belongs to another framework.
    """
    found = flavor_of(model)
    alike = _MLFLOW_MODULE.get(flavor or "", flavor) == _MLFLOW_MODULE.get(found or "", found)
    if flavor and not alike and model is not None:  # None: such as a forest without trees yet
        which = f"has the flavor {found}" if found else "has no known flavor"
        raise UsageError(
            f"--model-flavor {flavor} (in a project's file ml_model_flavor): the model is a "
            f"{type(model).__name__}, which {which}. Leave it out: the model's class decides"
        )


def example_for(model: Any) -> Array | None:
    """A row of zeros of the form that a model predicts from; None if the model does not tell."""
    width: Any = getattr(model, "n_features_in_", None)  # scikit-learn's, and what looks like it
    if width is None and hasattr(model, "coef_"):
        width = np.shape(model.coef_)[-1]
    if width is not None:
        return np.zeros((1, int(width)))
    for name in ("num_features", "num_feature"):  # XGBoost's Booster, LightGBM's
        if callable(count := getattr(model, name, None)):
            return np.zeros((1, int(count())))
    shape = getattr(model, "input_shape", None)  # Keras: (None, 28, 28)
    if shape is None and flavor_of(model) == "pytorch":
        layer = next((part for part in model.modules() if "weight" in part._parameters), None)
        shape = (None, getattr(layer, "in_features", None))
    if isinstance(shape, tuple) and shape[1:] and all(isinstance(n, int) for n in shape[1:]):
        return np.zeros((1, *shape[1:]), np.float32)
    return None


def log_model(
    model: Any,
    flavor: str | None,
    requirements: Sequence[str],
    code_paths: Sequence[str],
    input_example: Any = None,
) -> None:
    """Log a model as `ARTIFACT` of MLflow's active run.

    A model of no known framework is logged as a pickle, written by cloudpickle.

    Args:
        flavor: A name from `_BY_MODULE`; None: the model's class decides.
        requirements: For pip. Always given, since MLflow's guess takes 7 to 14 s and is wrong.
        code_paths: The user's modules, which loading the model may need.
        input_example: What the model predicts from. MLflow calls the model with it, and derives
            the signature; it logs the model without one if that fails.
    """
    options = {
        "name": ARTIFACT,
        "pip_requirements": list(requirements),
        "code_paths": list(code_paths),
        "input_example": input_example,
    }
    _write("log_model", model, flavor or flavor_of(model), options)


def save_model(
    model: Any,
    folder: Path,
    code_paths: Sequence[str],
    input_example: Any = None,
    *,
    skops: bool = True,
) -> None:
    """Write a model into a new folder, in the same form; its packages are those of this process.

    Args:
        skops: Whether a model of scikit-learn may be written by it. Its bytes differ each time.
    """
    options = {
        "path": str(folder),
        "pip_requirements": [],
        "code_paths": list(code_paths),
        "input_example": input_example,
    }
    _write("save_model", model, flavor_of(model), options, skops=skops)


def _write(
    verb: str, model: Any, flavor: str | None, options: dict[str, Any], *, skops: bool = True
) -> None:
    """Let MLflow log or save a model.

    Args:
        verb: ``log_model`` or ``save_model``.
        options: Those that each flavor takes.
    """
    name = _module_for(flavor)
    module: Any = importlib.import_module(f"mlflow.{name}")
    write = getattr(module, verb)
    # MLflow warns about signatures and formats, which users cannot change here. It also resets
    # warning filters, so record the warnings and drop them.
    with warnings.catch_warnings(record=True):
        if name == "pyfunc":
            with _held(model) as artifacts:
                write(python_model=str(_HELD), artifacts=artifacts, **options)
        elif flavor == "sklearn":
            _write_sklearn(write, model, options, skops=skops)
        elif flavor == "pytorch":
            write(model, serialization_format="pickle", **options)
        else:
            write(model, **options)


def inferred_requirements(model: Any, folder: Path) -> list[str]:
    """What MLflow believes that a model needs, found by loading it in a process of MLflow's.

    Args:
        folder: An empty folder, into which the model is saved.

    Returns:
        Requirements for pip; none for a model that MLflow has no flavor for.
    """
    flavor = flavor_of(model)
    if (name := _module_for(flavor)) == "pyfunc":
        return []
    models: Any = importlib.import_module("mlflow.models")
    save_model(model, folder / "model", [])
    with warnings.catch_warnings(record=True):
        found: list[str] = models.infer_pip_requirements(str(folder / "model"), name)
    return found


def _write_sklearn(
    write: Callable[..., Any], model: Any, options: dict[str, Any], *, skops: bool
) -> None:
    """Write without pickle if skops can: it supports only scikit-learn's own classes."""
    if skops:
        try:
            write(model, serialization_format="skops", **options)
        except Exception:
            shutil.rmtree(options.get("path", ""), ignore_errors=True)
        else:
            return
    write(model, serialization_format="cloudpickle", **options)


def _module_for(flavor: str | None) -> str:
    """The module of MLflow that writes models of a flavor; ``pyfunc`` writes all the others."""
    name = _MLFLOW_MODULE.get(flavor, flavor) if flavor else "pyfunc"
    # That of keras imports TensorFlow, whatever keras itself runs on.
    known = name != "tensorflow" or importlib.util.find_spec("tensorflow")
    return name if known else "pyfunc"


@contextmanager
def _held(model: Any) -> Iterator[Mapping[str, str]]:
    """A model in a file, by what has written it, as `held.py` reads it."""
    with temporary_folder("flops-fl-model-") as folder:
        if flavor_of(model) == "keras":
            import keras

            file = Path(folder, "model.keras")
            model.save(file)
            yield {f"keras-{keras.backend.backend()}": str(file)}
            return
        import cloudpickle

        file = Path(folder, "model.pkl")
        file.write_bytes(cloudpickle.dumps(model))
        yield {"cloudpickle": str(file)}
