"""What a training is to be, whoever starts it."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, Self, TypeAlias

from pydantic import PositiveInt, field_validator, model_validator

from flops_fl import limits
from flops_fl.options.common import Options
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
    Fraction,
    LocalPath,
    Pairs,
    PositiveNumber,
    ProjectId,
    Seconds,
    Seed,
    Size,
    TrackingUri,
)

Flavor: TypeAlias = Literal["sklearn", "pytorch", "keras", "tensorflow", "xgboost", "lightgbm"]
MINIMUMS = ("min_available_clients", "min_fit_clients", "min_evaluate_clients")
COHORT_OPTIONS = (*MINIMUMS, "fraction_fit", "fraction_evaluate")


class TrainingOptions(Options):
    rounds: PositiveInt = option("rounds to train", TRAINING, 3, metavar="N")
    strategy: str = option("how updates become the next model", TRAINING, "FedAvg", metavar="NAME")
    strategy_option: Pairs = option(
        "an option of the strategy; may be repeated",
        TRAINING,
        {},
        metavar="KEY=VALUE",
        repeated=True,
    )
    seed: Seed = option("makes the run repeatable, bit for bit", TRAINING, 0, metavar="N")

    min_clients: PositiveInt | None = option(
        "sets the three minimums (--help-all) at once", LEARNERS, None, metavar="N"
    )
    min_available_clients: PositiveInt = option(
        "learners that must be present before a round starts",
        LEARNERS,
        1,
        metavar="N",
        advanced=True,
    )
    min_fit_clients: PositiveInt = option(
        "updates that a round needs", LEARNERS, 1, metavar="N", advanced=True
    )
    min_evaluate_clients: PositiveInt = option(
        "evaluations that a round needs", LEARNERS, 1, metavar="N", advanced=True
    )
    fraction_fit: Fraction = option(
        "share of them that trains in a round", LEARNERS, 1.0, metavar="SHARE"
    )
    fraction_evaluate: Fraction = option(
        "share that evaluates in a round; 0 for none",
        LEARNERS,
        1.0,
        metavar="SHARE",
        advanced=True,
    )

    round_timeout: Seconds = option(
        "that a fit, or an evaluation, may take", WAITING, limits.ROUND_TIMEOUT, metavar="SECONDS"
    )
    join_timeout: Seconds = option(
        "to wait for --min-available-clients learners",
        WAITING,
        limits.JOIN_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    reconnect_timeout: Seconds = option(
        "in which a learner that was cut off may come back",
        WAITING,
        limits.ABSENCE_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    grace: Seconds | None = option(
        "close a stage so long after its minimum has answered; default: wait for all asked",
        WAITING,
        None,
        metavar="SECONDS",
        advanced=True,
    )

    max_failures: PositiveInt | None = option(
        "put a learner aside that failed in so many rounds in a row",
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
        "what to do with those beyond it", UPDATES, "clip", advanced=True
    )
    mismatch: Literal["warn", "refuse", "ignore"] = option(
        "what to do with learners that have another commit, other package versions or another "
        "state beside the parameters",
        UPDATES,
        "warn",
        advanced=True,
    )

    output: LocalPath | None = option(
        "default: a new one, runs/PROJECT-ID, ...-2", RESULTS, None, metavar="FOLDER"
    )
    project_id: ProjectId | None = option(
        "names the training; default: the repository's name",
        RESULTS,
        None,
        metavar="NAME",
        advanced=True,
    )
    resume: bool = option("go on with the newest unfinished run, or --output", RESULTS, False)
    fresh: bool = option("start anew, whatever is in --output", RESULTS, False, advanced=True)
    json_: bool = option("print result.json on stdout, too", RESULTS, False, alias="json")
    tracking_uri: TrackingUri | None = option(
        "MLflow server; default: a file in the folder", RESULTS, None, metavar="URI"
    )
    no_tracking: bool = option("do without MLflow", RESULTS, False)
    model_flavor: Flavor | None = option(
        "MLflow flavor of the model; default: found out", RESULTS, None, advanced=True
    )

    checkpoints: PositiveInt = option(
        "of the newest fits to keep", LIMITS, limits.CHECKPOINTS, metavar="N", advanced=True
    )
    large_model: Size = option(
        "from which the global model lies in a file while a round is folded",
        LIMITS,
        limits.LARGE_MODEL,
        metavar="SIZE",
        advanced=True,
    )
    tracking_timeout: Seconds = option(
        "at the end for what MLflow has not taken yet",
        LIMITS,
        limits.TRACKING_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )

    @property
    def awaited(self) -> int:
        """Learners that must be present before a round starts."""
        return self.min_available_clients

    @property
    def cohort(self) -> dict[str, Any]:
        """The options on numbers of learners, under the names that Flower's strategies have."""
        return {name: getattr(self, name) for name in COHORT_OPTIONS}

    @property
    def bounds(self) -> dict[str, Any]:
        """What is refused or put aside, where anything is."""
        names = ("max_failures", "max_update_norm", "grace")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.max_update_norm is not None:
            found["large_updates"] = self.large_updates
        return found

    @field_validator("strategy_option")
    @classmethod
    def _of_the_strategy(cls, told: dict[str, Any]) -> dict[str, Any]:
        for name, value in told.items():
            if name in COHORT_OPTIONS:
                raise ValueError(f"{name} is no option of a strategy: use {flag(name)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}, expected a finite number")
        return told

    @model_validator(mode="before")
    @classmethod
    def _one_minimum(cls, values: Any) -> Any:
        told = values.get("min_clients") if isinstance(values, dict) else None
        if told is not None and re.fullmatch(r" *0*[1-9]\d* *", str(told)):  # else it is said once
            for name in MINIMUMS:
                values.setdefault(name, told)
        return values

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        most = max(self.min_fit_clients, self.min_evaluate_clients)
        if most > self.awaited:
            raise ValueError(
                f"--min-available-clients {self.awaited} is less than the "
                f"{most} that must fit or evaluate: raise it to {most}"
            )
        if self.resume and self.fresh:
            raise ValueError("--resume and --fresh exclude each other: give one")
        return self
