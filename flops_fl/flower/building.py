"""Build the strategy that `--strategy` names, or say in a sentence why that is impossible."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import flwr.server.strategy as flower
import flwr.serverapp.strategy as newer

from flops_fl.core.aggregation import Strategy
from flops_fl.core.fedavg import FedAvg
from flops_fl.errors import UsageError
from flops_fl.flower.catalogue import (
    CATALOGUE,
    FOR_OPAQUE,
    FOR_TENSORS,
    NAMES,
    NEEDS_CONFIG,
    UNFIT,
    WRAPS,
    Entry,
)
from flops_fl.flower.kinds import FlowerMean, FlowerOptimiser, floats_of
from flops_fl.flower.opaque import TAKES_OPAQUE, FlowerOpaque, as_flower
from flops_fl.flower.own import HOOKS, FlowerOwn, FlowerOwnOpaque
from flops_fl.flower.strategy import FlowerStrategy, as_parameters
from flops_fl.flower.xgboost import FlowerBagging
from flops_fl.options.training import COHORT_OPTIONS
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.loader import Workspace
from flops_fl.text import raised
from flops_fl.types import Layout, Parameters, Scalar

_QUIET: dict[str, Any] = {
    f"{stage}_metrics_aggregation_fn": lambda _: {} for stage in ("fit", "evaluate")
}
"""Flower warns if a strategy has no function to aggregate metrics; these give it one."""
_CALLABLE = ("_fn", "_function")
"""Suffixes of Flower's options that take a function."""


def strategy_for(
    model: ManagedModel, name: str, options: Mapping[str, Any], *, seed: int
) -> Strategy:
    """The strategy called `name` for a repository's model; see `strategy_called`."""
    if name in NEEDS_CONFIG and not model.takes_config:
        raise UsageError(
            f"--strategy {name} needs the learners' help: let fit_model take an argument config "
            f"and use config[{NEEDS_CONFIG[name]!r}] there, or choose another strategy"
        )
    return strategy_called(
        name,
        options,
        seed=seed,
        layout=model.layout,
        initial=model.parameters,
        statistics=model.statistics(),
        repository=model.workspace,
    )


def require_known(name: str) -> None:
    """Check the name of a strategy before there is a model.

    Raises:
        UsageError: there is no such strategy, or it works with no repository.
    """
    if name in UNFIT:
        raise UsageError(f"--strategy {name} does not fit: {UNFIT[name]}")
    if name not in NAMES and ":" not in name:
        raise UsageError(
            f"no strategy {name!r}: choose from {', '.join(sorted(NAMES))}, or give MODULE:CLASS"
        )


def strategy_called(
    name: str,
    options: Mapping[str, Any],
    *,
    seed: int,
    layout: Layout,
    initial: Callable[[], Parameters],
    statistics: Collection[int] = (),
    repository: Workspace | None = None,
) -> Strategy:
    """Build a strategy.

    Args:
        name: FedAvg, a class of `flwr.server.strategy`, or ``module:name`` for a class or a
            function that returns an object with the interface of Flower's Strategy.
        options: Arguments of its constructor, and options of the cohort (`COHORT_OPTIONS`).
        seed: The seed of every choice of learners.
        layout: The layout of the global model.
        initial: Returns the initial global model; called only if the strategy takes it.
        statistics: Indices of tensors such as moving means, which no optimiser may change.
        repository: The workspace in which modules are looked for first.

    Raises:
        UsageError: there is no such strategy, it does not fit the model, or it does not take an
            option.
    """
    require_known(name)
    if name == "FedAvg":
        _require_fit(name, layout, FlowerMean)
        return _fedavg(options, seed, layout)
    if ":" in name:
        entry = Entry(_found(name, repository), FlowerOwn)
        _require_known_api(name, entry.make)
    else:
        entry = CATALOGUE[name]
        _require_fit(name, layout, entry.kind)
    kind: Callable[..., FlowerStrategy] = entry.kind
    floats = floats_of(layout)
    if entry.kind is FlowerOptimiser:
        floats = [index for index in floats if index not in set(statistics)]
        kind = partial(FlowerOptimiser, learnt=floats)
    elif entry.kind is FlowerBagging:
        kind = partial(FlowerBagging, initial=initial)

    def start() -> Any:
        model = initial()
        if layout.opaque:
            return as_flower(model)
        return as_parameters(model if ":" in name else [model[index] for index in floats])

    own = repository is not None and ":" in name
    within = repository.active if repository and own else nullcontext
    with within():
        built, used = _build(name, entry, options, start)
    if ":" in name:
        kind = _kind_of(built)
        _require_fit(name, layout, kind)
    return kind(name, built, used, seed=seed, layout=layout, within=within)


def _kind_of(built: Any) -> type[FlowerStrategy]:
    """The kind of a user's strategy: by its attribute `TAKES_OPAQUE`, else by its base class."""
    theirs = isinstance(built, flower.FedXgbBagging | flower.FedXgbCyclic)
    return FlowerOwnOpaque if getattr(built, TAKES_OPAQUE, theirs) else FlowerOwn


def _require_known_api(name: str, made: Any) -> None:
    """Refuse a strategy (or its class) of Flower's newer message API."""
    kind = made if inspect.isclass(made) else type(made)
    if issubclass(kind, newer.Strategy):
        raise UsageError(
            f"--strategy {name} is one of Flower's message API (flwr.serverapp.strategy), which "
            "leads the rounds itself: take the class of flwr.server.strategy, or derive your own "
            "class from one of those"
        )


def _require_fit(name: str, layout: Layout, kind: type[FlowerStrategy]) -> None:
    """Refuse an opaque model with a strategy that needs a mean, and the reverse."""
    takes_opaque = issubclass(kind, FlowerOpaque)
    if layout.opaque and not takes_opaque:
        raise UsageError(
            f"--strategy {name} needs a mean, and this model's parameters are opaque (bytes, or "
            f"opaque_parameters): choose {' or '.join(FOR_OPAQUE)}, or MODULE:CLASS whose class "
            f"has {TAKES_OPAQUE} = True"
        )
    if takes_opaque and not layout.opaque:
        raise UsageError(
            f"--strategy {name} is for opaque models (bytes, or opaque_parameters), and this "
            f"model's parameters are arrays that have a mean: choose from {', '.join(FOR_TENSORS)}"
        )


def _fedavg(options: Mapping[str, Any], seed: int, layout: Layout) -> FedAvg:
    own = {"accept_failures": True}
    unknown = sorted(set(options) - {*COHORT_OPTIONS, *own})
    if unknown:
        _require_no_function("FedAvg", unknown[0])
        raise _unbuilt("FedAvg", f"it takes no {unknown[0]}", own)
    _require_kinds("FedAvg", options, own)
    return FedAvg(layout, seed=seed, **options)


def _require_no_function(name: str, option: str) -> None:
    """Refuse an option that is a function or an object, since an option is given as text."""
    if option.endswith(_CALLABLE) or option in ("initial_parameters", "strategy"):
        raise UsageError(
            f"--strategy-option {option} cannot be given as text, since it is an object: write a "
            "function in the repository that returns the strategy built with it, and give "
            f"--strategy MODULE:FUNCTION instead of {name} (docs/flower.md has an example)"
        )


def _require_kinds(name: str, options: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Check that an option has the type of its default: bool, integer or number.

    A user's class may write the default of a float as an integer, so there any number passes.
    """
    for key, value in options.items():
        default = own.get(key)
        if isinstance(default, bool):
            fits, expected = isinstance(value, bool), "true or false"
        elif isinstance(default, int) and ":" not in name:
            fits, expected = isinstance(value, int) and not isinstance(value, bool), "an integer"
        elif isinstance(default, int | float):
            fits = isinstance(value, int | float) and not isinstance(value, bool)
            expected = "a number"
        else:
            continue
        if not fits:
            why = f"{key} is {value!r}, expected {expected} (default: {default})"
            raise _unbuilt(name, why, own)


def _build(
    name: str,
    entry: Entry,
    options: Mapping[str, Any],
    start: Callable[[], Any],
) -> tuple[Any, dict[str, Scalar]]:
    """The object with Flower's interface, and its own options as it was built with them."""
    accepted = inspect.signature(entry.make).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    own = {key: p.default for key, p in accepted.items() if _is_own(key, p, entry)}
    given = dict(entry.defaults)
    for key, value in options.items():
        _require_no_function(name, key)
        if key in own or anything or (key in accepted and key in COHORT_OPTIONS):
            given[key] = value
        elif key not in COHORT_OPTIONS:  # a user's class need not take these
            raise _unbuilt(name, entry.without.get(key, f"it takes no {key}"), own)
    _require_kinds(name, options, own | dict(entry.defaults))
    used = own | {key: value for key, value in given.items() if key not in COHORT_OPTIONS}
    if ":" not in name and inspect.isclass(entry.make) and issubclass(entry.make, flower.FedAvg):
        given |= _QUIET
    if "strategy" in accepted and str(entry.make.__module__).startswith("flwr."):
        raise UsageError(f"--strategy {name} does not fit: {WRAPS}")
    # This copies the model, so only strategies that look at it get it.
    if "initial_parameters" in accepted and (":" in name or entry.kind is FlowerOptimiser):
        given["initial_parameters"] = start()
    try:
        built = entry.make(**given)
    except (Exception, SystemExit) as error:
        raise _unbuilt(name, raised(error) if ":" in name else str(error), own) from error
    if isinstance(built, type):
        raise UsageError(
            f"--strategy {name} gave the class {built.__name__}, expected an object of it: "
            "return that, or give --strategy the class"
        )
    _require_known_api(name, built)
    missing = [method for method in HOOKS if not callable(getattr(built, method, None))]
    if missing:
        raise UsageError(
            f"--strategy {name} gave a {type(built).__name__} without {', '.join(missing)}: "
            "expected an object with the interface of flwr.server.strategy.Strategy"
        )
    return built, {key: value for key, value in used.items() if isinstance(value, Scalar)}


def _unbuilt(name: str, why: str, own: Collection[str]) -> UsageError:
    return UsageError(
        f"strategy {name} cannot be built: {why.rstrip('.')}. Its options (--strategy-option): "
        f"{', '.join(own) or 'none'}"
    )


def _is_own(key: str, parameter: inspect.Parameter, entry: Entry) -> bool:
    """Whether an argument is one of the strategy's own options and can be given as text."""
    variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    inner = key in (*COHORT_OPTIONS, "initial_parameters") or key.endswith(_CALLABLE)
    return not (variadic or inner or key in entry.without)


def _found(name: str, repository: Workspace | None) -> Callable[..., Any]:
    """The class or function that ``module:name`` names, in the repository or installed."""
    module, _, attribute = name.partition(":")
    load = repository.import_module if repository else importlib.import_module
    try:
        found = getattr(load(module), attribute, None)
    except Exception as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{module}.".startswith(f"{absent}."):
            why = f"there is no module {module!r} in the repository, and none is installed"
        else:
            at = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__} in {at.filename}, line {at.lineno}: {error}"
        raise UsageError(f"--strategy {name}: {why}") from error
    if not callable(found):
        raise UsageError(
            f"--strategy {name}: module {module!r} has no class or function {attribute!r}, "
            "expected MODULE:CLASS"
        )
    return found  # type: ignore[no-any-return]
