"""Every option, default, port and limit, once.

`options.py` reads them from the command line and the environment: a field's name is its
option, its description the help text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from flops_fl.errors import UsageError
from flops_fl.net.address import Address
from flops_fl.net.tls import Tls
from flops_fl.options.kinds import ExistingFile, Fraction, HostPort, Listing, Pairs

COHORT_OPTIONS = (
    "min_available_clients",
    "min_fit_clients",
    "min_evaluate_clients",
    "fraction_fit",
    "fraction_evaluate",
)


class Options(BaseModel):
    """Base of the options of each command."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class RepoOptions(Options):
    repo: str = Field(
        description="the ML repository: a folder, or a Git URL with an optional @ref",
        json_schema_extra={"positional": True},
    )


class TlsOptions(Options):
    tls_cert: ExistingFile | None = Field(None, description="own certificate, a PEM file")
    tls_key: ExistingFile | None = Field(None, description="its private key, a PEM file")
    tls_ca: ExistingFile | None = Field(
        None, description="certificate of the authority that the other side's must be signed by"
    )
    insecure: bool = Field(False, description="allow addresses beyond loopback without TLS")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together: give both")
        return self

    def tls(self) -> Tls | None:
        """The files' content; None without TLS.

        Raises:
            UsageError: they cannot be read.
        """
        if not (self.tls_cert or self.tls_ca):
            return None
        return Tls.read(self.tls_cert, self.tls_key, self.tls_ca)


class HealthOptions(Options):
    metrics: HostPort | None = Field(
        None, description="HOST:PORT for Prometheus metrics and readiness, default: none"
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
    output: Path | None = Field(
        None, description="folder of the results, default: runs/PROJECT-ID, runs/PROJECT-ID-2, ..."
    )
    resume: bool = Field(False, description="go on with the unfinished run, the newest or --output")
    fresh: bool = Field(False, description="start anew, whatever is in --output")
    tracking_uri: str | None = Field(
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


class AggregatorOptions(RepoOptions, TrainingOptions, TlsOptions, HealthOptions):
    """Options of ``python -m aggregator``."""

    listen: HostPort = Field(Address("127.0.0.1", 8080), description="HOST:PORT to serve on")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not (self.listen.loopback or self.tls_cert or self.insecure):
            raise ValueError(
                f"--listen {self.listen} can be reached from other machines: give --tls-cert and "
                "--tls-key, or say --insecure"
            )
        if self.tls_ca and not self.tls_cert:
            raise ValueError("--tls-ca needs --tls-cert and --tls-key on an aggregator: give them")
        return self


class LearnerOptions(RepoOptions, TlsOptions, HealthOptions):
    """Options of ``python -m learner``."""

    aggregator: HostPort = Field(description="HOST:PORT of the aggregator")
    data: Path | None = Field(None, description="folder of Parquet or Arrow files to train on")
    data_tags: Listing = Field(
        default_factory=list,
        description="use only files named TAG.<anything>.parquet; {id} stands for the learner's id",
    )
    learner_id: Listing = Field(
        default_factory=list,
        description="this learner's id, default: the certificate's name, else the host's; "
        "several, with commas, are hosted in this one process",
    )
    connect_timeout: PositiveFloat = Field(
        300.0, description="seconds to try to reach the aggregator at the start"
    )
    reconnect_timeout: PositiveFloat = Field(
        3600.0, description="seconds to try to come back after the connection was lost"
    )
    threads: int = Field(
        1,
        ge=0,
        description="threads for numerical libraries; 0 for all cores. Results are the same on "
        "every machine only if it is the same for all learners",
    )
    protocol: Literal["native", "flower"] = Field(
        "native", description="native, or flower: the aggregator is a stock Flower server"
    )
    log_folder: Path | None = Field(
        None,
        description="folder for what the repository's code prints, a file for each learner; "
        "default: as it comes, on stdout and stderr",
    )
    stay: bool = Field(False, description="wait for the next project when one has ended")
    quiet: bool = Field(False, description="say nothing but errors")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not (self.aggregator.loopback or self.tls_ca or self.insecure):
            raise ValueError(
                f"--aggregator {self.aggregator} is another machine: give --tls-ca, or say "
                "--insecure"
            )
        if self.protocol == "flower" and len(self.learner_id) > 1:
            raise ValueError("--protocol flower takes one --learner-id a process")
        return self


class FederationOptions(RepoOptions, TrainingOptions):
    """A whole federation: the training, and where each learner's data come from."""

    learners: PositiveInt = Field(description="how many learners")
    data: str = Field(
        "digits",
        description="digits, fashion-mnist, hf:NAME, a Parquet file, a folder; or none, for a "
        "repository that brings its own",
    )
    partition: str = Field("iid", description="iid or dirichlet:ALPHA")
    resize: PositiveInt | None = Field(None, description="make images of the digits N x N")
    threads: int = Field(1, ge=0, description="threads for numerical libraries, a learner")

    def for_aggregator(self) -> AggregatorOptions:
        """The same training, with every learner awaited unless the user said otherwise.

        Raises:
            UsageError: more learners are awaited than there will be.
        """
        given = self.model_fields_set & set(TrainingOptions.model_fields)
        values: dict[str, Any] = {name: getattr(self, name) for name in given}
        if "min_clients" not in values:
            values.setdefault("min_available_clients", self.learners)
        if self.min_available_clients > self.learners:
            raise UsageError(
                f"--min-available-clients {self.min_available_clients} with --learners "
                f"{self.learners}: that many will never come, lower it"
            )
        values["json"] = values.pop("json_", False)
        return AggregatorOptions(repo=self.repo, listen=Address("127.0.0.1", 0), **values)


class SimulateOptions(FederationOptions):
    """Options of ``flops-fl simulate``."""

    processes: PositiveInt | None = Field(
        None, description="processes that host them, default: one a core"
    )


class FlowerExportOptions(FederationOptions):
    """Options of ``flops-fl flower export``."""

    out: Path = Field(description="folder for the Flower app")


class PartitionOptions(Options):
    """Options of ``flops-fl data partition``."""

    source: str = Field(
        description="digits, fashion-mnist, hf:NAME or a Parquet file",
        json_schema_extra={"positional": True},
    )
    parts: PositiveInt = Field(description="how many parts, one for each learner")
    tag: str = Field(description="data tag, the first part of each file's name")
    out: Path = Field(description="folder for the parts")
    scheme: str = Field("iid", description="iid or dirichlet:ALPHA")
    seed: int = Field(0, ge=0, lt=2**63, description="of the shuffle")
    resize: PositiveInt | None = Field(None, description="make images of the digits N x N")
