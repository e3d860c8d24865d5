"""Options of a training, whichever command starts it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import PositiveInt, field_validator, model_validator

from flops_fl import limits
from flops_fl.options.common import TRUE, Options
from flops_fl.options.described import (
    LEARNERS,
    LIMITS,
    RESULTS,
    TRAINING,
    UPDATES,
    WAITING,
    flag,
    option,
)
from flops_fl.options.kinds import (
    Awaited,
    Fraction,
    Kept,
    LocalPath,
    Pairs,
    PositiveNumber,
    ProjectId,
    Registered,
    Rounds,
    Seconds,
    Seed,
    Size,
    TrackingUri,
)

Flavor: TypeAlias = Literal["sklearn", "pytorch", "keras", "tensorflow", "xgboost", "lightgbm"]
MINIMUMS = ("min_available_clients", "min_fit_clients", "min_evaluate_clients")
BOUNDS = ("max_failures", "max_update_norm", "large_updates", "grace")
COHORT_OPTIONS = (*MINIMUMS, "fraction_fit", "fraction_evaluate")


class ProjectOptions(Options):
    """What the file of a FLOps project says of a training, too."""

    rounds: Rounds = option("number of rounds", TRAINING, 3, metavar="N")

    min_clients: Awaited | None = option(
        "sets the three minimums (--help-all) at once", LEARNERS, None, metavar="N"
    )
    min_available_clients: Awaited = option(
        "learners that must be present before a round starts",
        LEARNERS,
        1,
        metavar="N",
        advanced=True,
    )
    min_fit_clients: Awaited = option(
        "updates that a round needs", LEARNERS, 1, metavar="N", advanced=True
    )
    min_evaluate_clients: Awaited = option(
        "evaluations that a round needs", LEARNERS, 1, metavar="N", advanced=True
    )

    model_flavor: Flavor | None = option(
        "MLflow flavor of the model; default: detected", RESULTS, None, advanced=True
    )


class StrategyOptions(Options):
    """Which strategy aggregates, and with what options."""

    strategy: str = option("how updates are aggregated", TRAINING, "FedAvg", metavar="NAME")
    strategy_option: Pairs = option(
        "an option of the strategy; may be repeated",
        TRAINING,
        {},
        metavar="KEY=VALUE",
        repeated=True,
    )

    @field_validator("strategy_option")
    @classmethod
    def _of_the_strategy(cls, told: dict[str, Any]) -> dict[str, Any]:
        for name, value in told.items():
            if name in COHORT_OPTIONS:
                raise ValueError(f"{name} is no option of a strategy: use {flag(name)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}, expected a finite number")
        return told


class RunningOptions(StrategyOptions):
    """How a training runs, whatever it is told to do."""

    seed: Seed = option("makes the run repeatable, bit for bit", TRAINING, 0, metavar="N")

    fraction_fit: Fraction = option(
        "share of learners that trains in a round", LEARNERS, 1.0, metavar="SHARE"
    )
    fraction_evaluate: Fraction = option(
        "share of learners that evaluates in a round; 0: none",
        LEARNERS,
        1.0,
        metavar="SHARE",
        advanced=True,
    )

    round_timeout: Seconds = option(
        "how long a fit or an evaluation may take",
        WAITING,
        limits.ROUND_TIMEOUT,
        metavar="SECONDS",
    )
    join_timeout: Seconds = option(
        "how long to wait for --min-available-clients learners",
        WAITING,
        limits.JOIN_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    reconnect_timeout: Seconds = option(
        "how long a learner that lost its connection may take to come back",
        WAITING,
        limits.ABSENCE_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    grace: Seconds | None = option(
        "how long a stage stays open after its minimum has answered; default: until all have",
        WAITING,
        None,
        metavar="SECONDS",
        advanced=True,
    )

    max_failures: PositiveInt | None = option(
        "failed rounds in a row after which a learner is excluded",
        UPDATES,
        None,
        metavar="N",
        advanced=True,
    )
    max_update_norm: PositiveNumber | None = option(
        "largest L2 norm of an update's change to the model",
        UPDATES,
        None,
        metavar="NORM",
        advanced=True,
    )
    large_updates: Literal["clip", "refuse"] = option(
        "what to do with updates beyond --max-update-norm", UPDATES, "clip", advanced=True
    )
    mismatch: Literal["warn", "refuse", "ignore"] = option(
        "what to do with learners that have another commit, other package versions or another "
        "state outside the parameters",
        UPDATES,
        "warn",
        advanced=True,
    )

    output: LocalPath | None = option(
        "for results; default: new runs/PROJECT-ID, ...-2",
        RESULTS,
        None,
        metavar="FOLDER",
    )
    project_id: ProjectId | None = option(
        "name of the training; default: the repository's name",
        RESULTS,
        None,
        metavar="NAME",
        advanced=True,
    )
    resume: bool = option("continue the newest unfinished run, or --output", RESULTS, False)
    fresh: bool = option("start anew, whatever is in --output", RESULTS, False, advanced=True)
    json_: bool = option("print result.json on stdout, too", RESULTS, False, alias="json")
    tracking_uri: TrackingUri | None = option(
        "MLflow server; default: a file in the folder", RESULTS, None, metavar="URI"
    )
    no_tracking: bool = option("do without MLflow", RESULTS, False)
    register_: Registered | None = option(
        "name the best model in MLflow's registry, and point an alias at its new version",
        RESULTS,
        None,
        metavar="NAME[@ALIAS]",
        advanced=True,
        alias="register",
    )

    keep_rounds: Kept = option(
        "of how many rounds to keep the checkpoint, the newest; with all any round can be replayed",
        LIMITS,
        limits.CHECKPOINTS,
        metavar="N|all",
        advanced=True,
        formerly="checkpoints",
    )
    large_model: Size = option(
        "size from which the global model is kept in a file while updates are aggregated",
        LIMITS,
        limits.LARGE_MODEL,
        metavar="SIZE",
        advanced=True,
    )
    tracking_timeout: Seconds = option(
        "how long to wait at the end until MLflow has taken everything",
        LIMITS,
        limits.TRACKING_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )

    @classmethod
    def meant(cls, environment: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The environment, with --no-tracking without its server: a machine may set that."""
        if str((environment | dict(given)).get("no_tracking")).lower() not in TRUE:
            return environment
        return {name: value for name, value in environment.items() if name != "tracking_uri"}

    @property
    def bounds(self) -> dict[str, Any]:
        """The options that bound updates and learners; only those that were given."""
        found = {name: getattr(self, name) for name in BOUNDS if getattr(self, name) is not None}
        if self.max_update_norm is None:
            del found["large_updates"]
        return found

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.resume and self.fresh:
            raise ValueError("--resume and --fresh exclude each other: give one")
        if self.register_ and self.no_tracking:
            raise ValueError("--register needs MLflow: leave out --no-tracking")
        if self.tracking_uri and self.no_tracking:
            raise ValueError("--no-tracking and --tracking-uri exclude each other: give one")
        return self


class TrainingOptions(RunningOptions, ProjectOptions):
    """All of a training."""

    @property
    def awaited(self) -> int:
        """Learners that must be present before a round starts."""
        return self.min_available_clients

    @property
    def cohort(self) -> dict[str, Any]:
        """The options on numbers of learners, by the names that Flower's strategies use."""
        return {name: getattr(self, name) for name in COHORT_OPTIONS}

    @model_validator(mode="before")
    @classmethod
    def _one_minimum(cls, values: Any) -> Any:
        told = values.get("min_clients") if isinstance(values, dict) else None
        found = told is not None and re.fullmatch(r" *0*([1-9]\d{,6}) *", str(told))
        if found and int(found[1]) <= limits.MOST_LEARNERS:  # else the error is reported once
            for name in MINIMUMS:
                values.setdefault(name, told)
        return values

    @model_validator(mode="after")
    def _enough(self) -> Self:
        most = max(self.min_fit_clients, self.min_evaluate_clients)
        if most > self.awaited:
            raise ValueError(
                f"--min-available-clients {self.awaited} is less than the "
                f"{most} that must fit or evaluate: raise it to {most}"
            )
        return self
