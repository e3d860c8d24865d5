"""Log a model with the MLflow flavor it belongs to."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

from flops_fl.errors import UsageError

ARTIFACT = "logged_model_artifact"
"""Where FLOps looks for the trained model, in the run of the best round."""

_BY_MODULE = {
    "sklearn": "sklearn",
    "torch": "pytorch",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
}
_MLFLOW_MODULE = {"keras": "tensorflow"}  # mlflow.keras is an alias of it since MLflow 2


def flavor_of(model: Any) -> str | None:
    """The flavor that a model's class, or one it derives from, belongs to."""
    for cls in type(model).__mro__:
        flavor = _BY_MODULE.get(cls.__module__.partition(".")[0])
        if flavor:
            return flavor
    return None


def check_flavor(flavor: str | None, model: Any) -> None:
    """See at the start whether a model can be logged as what was asked for.

    Raises:
        UsageError: it is of another framework.
    """
    found = flavor_of(model)
    alike = _MLFLOW_MODULE.get(flavor or "", flavor) == _MLFLOW_MODULE.get(found or "", found)
    if flavor and not alike and model is not None:  # None: such as a forest without trees yet
        which = f"of the flavor {found}" if found else "of none of them"
        raise UsageError(
            f"--model-flavor {flavor}: the model is a {type(model).__name__}, which is {which}. "
            "Leave the option out: the flavor is found by the model's class"
        )


def log_model(
    model: Any, flavor: str | None, requirements: Sequence[str], code_paths: Sequence[str]
) -> None:
    """Log a model as `ARTIFACT` of MLflow's active run.

    Models of no known framework are logged as a pickle of the object, by cloudpickle.

    Args:
        flavor: A name of `_BY_MODULE`; None to go by the model's class.
        requirements: For pip; always given, since MLflow's guess takes 7 to 14 s and errs.
        code_paths: The user's modules, which the model may need to be loaded.
    """
    flavor = flavor or flavor_of(model)
    options: dict[str, Any] = {
        "pip_requirements": list(requirements),
        "code_paths": list(code_paths),
    }
    name = _MLFLOW_MODULE.get(flavor, flavor) if flavor else "pyfunc"
    module: Any = importlib.import_module(f"mlflow.{name}")
    # Advice on signatures and formats is for other callers; it sets filters against filters.
    with warnings.catch_warnings(record=True):
        if flavor is None:
            _log_object(module, model, options)
        elif flavor == "sklearn":
            _log_sklearn(module, model, options)
        elif flavor == "pytorch":
            module.log_model(model, name=ARTIFACT, serialization_format="pickle", **options)
        else:
            module.log_model(model, name=ARTIFACT, **options)


def _log_sklearn(module: Any, model: Any, options: dict[str, Any]) -> None:
    """Without pickle where skops can: it knows scikit-learn's own classes only."""
    try:
        module.log_model(model, name=ARTIFACT, serialization_format="skops", **options)
    except Exception:
        module.log_model(model, name=ARTIFACT, serialization_format="cloudpickle", **options)


def _log_object(module: Any, model: Any, options: dict[str, Any]) -> None:
    class Holder(module.PythonModel):  # type: ignore[misc]
        """Gives the user's object back; predicts if the object can."""

        def __init__(self, held: Any) -> None:
            self.held = held

        # Without type hints, from which MLflow would derive a schema of its own.
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return self.held.predict(model_input)

    module.log_model(python_model=Holder(model), name=ARTIFACT, **options)
