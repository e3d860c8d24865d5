"""What a training is to be, whoever starts it."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from flops_fl.options.common import Options
from flops_fl.options.kinds import Fraction, LocalPath, Pairs, TrackingUri

COHORT_OPTIONS = (
    "min_available_clients",
    "min_fit_clients",
    "min_evaluate_clients",
    "fraction_fit",
    "fraction_evaluate",
)


class TrainingOptions(Options):
    project_id: str | None = Field(
        None,
        description="names the training, default: the repository's name",
        pattern=r"^[\w@:+=-][\w.@:+=-]{0,127}$",
    )
    rounds: PositiveInt = Field(3, description="how many rounds to train")
    min_clients: PositiveInt | None = Field(
        None, description="sets the three minimums below at once"
    )
    min_available_clients: PositiveInt = Field(
        1, description="learners that must be present before a round starts"
    )
    min_fit_clients: PositiveInt = Field(1, description="updates that a round needs")
    min_evaluate_clients: PositiveInt = Field(1, description="evaluations that a round needs")
    fraction_fit: Fraction = Field(1.0, description="share of the learners that train in a round")
    fraction_evaluate: Fraction = Field(
        1.0, description="share of the learners that evaluate in a round; 0 for none"
    )
    round_timeout: PositiveFloat = Field(
        3600.0, description="seconds that a fit, or an evaluation, may take"
    )
    join_timeout: PositiveFloat = Field(
        600.0, description="seconds to wait for --min-available-clients learners"
    )
    grace: PositiveFloat | None = Field(
        None,
        description="close a stage so many seconds after --min-fit-clients, or "
        "--min-evaluate-clients, have answered; default: wait for all that were asked",
    )
    max_failures: PositiveInt | None = Field(
        None, description="put a learner aside that failed in so many rounds in a row"
    )
    max_update_norm: PositiveFloat | None = Field(
        None, description="largest L2 norm of an update's change to the model"
    )
    large_updates: Literal["clip", "refuse"] = Field(
        "clip", description="what to do with those beyond --max-update-norm: clip or refuse"
    )
    mismatch: Literal["warn", "refuse", "ignore"] = Field(
        "warn",
        description="what to do with learners that have another commit, other package versions or "
        "another state beside the parameters: warn, refuse or ignore",
    )
    reconnect_timeout: PositiveFloat = Field(
        600.0, description="seconds after which a learner that was cut off counts as gone"
    )
    strategy: str = Field("FedAvg", description="how updates become the next global model")
    strategy_option: Pairs = Field(
        default_factory=dict, description="KEY=VALUE, an option of the strategy; may be repeated"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="makes the run repeatable, bit for bit")
    output: LocalPath | None = Field(
        None, description="folder of the results, default: runs/PROJECT-ID, runs/PROJECT-ID-2, ..."
    )
    resume: bool = Field(False, description="go on with the unfinished run, the newest or --output")
    fresh: bool = Field(False, description="start anew, whatever is in --output")
    tracking_uri: TrackingUri | None = Field(
        None, description="MLflow server, default: an SQLite file in --output"
    )
    no_tracking: bool = Field(False, description="do without MLflow")
    model_flavor: Literal["sklearn", "pytorch", "keras", "tensorflow"] | None = Field(
        None, description="MLflow flavor of the model: sklearn, pytorch, keras, tensorflow"
    )
    json_: bool = Field(False, alias="json", description="print result.json on stdout, too")

    @property
    def cohort(self) -> dict[str, Any]:
        """The options on numbers of learners, under the names that Flower's strategies have."""
        return {name: getattr(self, name) for name in COHORT_OPTIONS}

    @property
    def limits(self) -> dict[str, Any]:
        """What is refused or put aside, where anything is."""
        names = ("max_failures", "max_update_norm", "grace")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.max_update_norm is not None:
            found["large_updates"] = self.large_updates
        return found

    @model_validator(mode="before")
    @classmethod
    def _one_minimum(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("min_clients") is not None:
            for name in ("min_available_clients", "min_fit_clients", "min_evaluate_clients"):
                values.setdefault(name, values["min_clients"])
        return values

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        most = max(self.min_fit_clients, self.min_evaluate_clients)
        if most > self.min_available_clients:
            raise ValueError(
                f"--min-available-clients {self.min_available_clients} is less than the "
                f"{most} that must fit or evaluate: raise it to {most}"
            )
        if self.resume and self.fresh:
            raise ValueError("--resume and --fresh exclude each other: give one")
        return self
