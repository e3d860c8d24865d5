"""A FLOps project's SLA: the file in which a user says what to train, how, and what comes then.

`read_sla` gives it as an `Sla`, frozen and checked. Its keys and defaults are those of the FLOps
manager (`flops_manager/classes/apps/project.py` in https://github.com/oakestra/addon-FLOps), and
so is what they mean for actors:

==============  ========================  =====================================
mode            aggregator                rounds; the three minimums
==============  ========================  =====================================
classic         the only one              training_rounds; those of the SLA
hierarchical    root                      training_cycles; the number of clusters
hierarchical    of each cluster           training_rounds; those of the SLA
==============  ========================  =====================================

`leading` gives these as options of ``flops-fl aggregator``. FLOps starts as many learners (in each
cluster) as must be available, and each trains on the data with any of the data tags.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from flops_fl.data.names import check_tag
from flops_fl.errors import UsageError
from flops_fl.options.images import PLATFORMS
from flops_fl.options.kinds import FEW_OF_ONE, FEW_ROUNDS
from flops_fl.options.training import MINIMUMS, Flavor
from flops_fl.project.mistakes import mistakes
from flops_fl.project.places import read_document
from flops_fl.repo.source import is_url

Step: TypeAlias = Literal["build_image_for_trained_model", "deploy_trained_model_image"]
BUILD, DEPLOY = get_args(Step)
CLUSTERS = 2  # without --clusters; fewer would be none


def _tag(tag: str) -> str:
    try:
        return check_tag(tag)
    except UsageError:
        raise ValueError from None


def _unlike(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if again := [item for item in items if items.count(item) > 1]:
        raise ValueError(f"{again[0]} is in it twice: expected each once")
    return items


def _some(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not items:
        raise ValueError
    return items


# Strict: no text that looks like a number or a switch, and no switch as a number.
Count = Annotated[int, Field(strict=True, ge=1)]
Rounds = Annotated[Count, FEW_ROUNDS]
Awaited = Annotated[Count, FEW_OF_ONE]
Megabytes = Annotated[int, Field(strict=True, ge=0)]
Switch = Annotated[bool, Field(strict=True)]


class _Section(BaseModel):
    """Part of an SLA. What was expected of a value stands in its field's description."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingConfiguration(_Section):
    """How the model is trained."""

    mode: Literal["classic", "hierarchical"] = Field(
        default="classic", description="classic or hierarchical"
    )
    data_tags: Annotated[
        tuple[Annotated[str, AfterValidator(_tag)], ...], AfterValidator(_unlike)
    ] = Field(
        default=(),
        description='a list of tags, such as ["mnist"], without commas and slashes in them',
    )
    training_cycles: Rounds = Field(
        default=1, description="how many rounds the root leads, a whole number from 1"
    )
    training_rounds: Rounds = Field(default=3, description="a whole number from 1")
    min_available_clients: Awaited = Field(default=1, description="a number of learners from 1")
    min_fit_clients: Awaited = Field(default=1, description="a number of learners from 1")
    min_evaluate_clients: Awaited = Field(default=1, description="a number of learners from 1")

    @field_validator("training_cycles")
    @classmethod
    def _of_clusters(cls, cycles: int, info: ValidationInfo) -> int:
        if cycles > 1 and info.data.get("mode") == "classic":
            raise ValueError(
                "the mode is classic, which has one cycle: expected mode hierarchical, or 1"
            )
        return cycles

    @field_validator("min_fit_clients", "min_evaluate_clients")
    @classmethod
    def _available(cls, count: int, info: ValidationInfo) -> int:
        available = info.data.get("min_available_clients", count)
        if count > available:
            raise ValueError(
                f"more than the {available} of min_available_clients: raise that, or lower this"
            )
        return count

    @property
    def hierarchical(self) -> bool:
        """Whether there are clusters between the learners and the root."""
        return self.mode == "hierarchical"

    @property
    def minimums(self) -> dict[str, int]:
        """The three minimums by their names; of each cluster if it is hierarchical."""
        return {name: getattr(self, name) for name in MINIMUMS}


class ResourceConstraints(_Section):
    """What a container may use; None where the file does not say it."""

    memory: Megabytes | None = Field(default=None, description="megabytes, a whole number from 0")
    vcpus: Count | None = Field(default=None, description="a whole number from 1")
    storage: Megabytes | None = Field(default=None, description="megabytes, a whole number from 0")


class Sla(_Section):
    """A FLOps project as its file describes it."""

    customer_id: str = Field(
        default="Admin", alias="customerID", min_length=1, description="a user's name"
    )
    verbose: Switch = Field(default=False, description="true or false")
    ml_repo_url: str = Field(
        min_length=1, description="the ML repository, a Git URL or the path of a folder"
    )
    """A Git URL, or the absolute path of a folder."""
    ml_model_flavor: Flavor | None = Field(
        default=None, description=f"one of {', '.join(get_args(Flavor))}"
    )
    """None: the model's class decides; the FLOps manager needs it."""
    use_devel_base_images: Switch = Field(default=False, description="true or false")
    supported_platforms: Annotated[
        tuple[Literal["linux/amd64", "linux/arm64"], ...],
        AfterValidator(_unlike),
        AfterValidator(_some),
    ] = Field(default=("linux/amd64",), description=f"a list of some of {', '.join(PLATFORMS)}")
    training_configuration: TrainingConfiguration = Field(
        default=TrainingConfiguration(), description="a mapping, such as {training_rounds: 3}"
    )
    post_training_steps: Annotated[tuple[Step, ...], AfterValidator(_unlike)] = Field(
        default=(), description=f"a list of some of {BUILD}, {DEPLOY}"
    )
    resource_constraints: ResourceConstraints | None = Field(
        default=None, description="a mapping, such as {memory: 512}"
    )

    @field_validator("ml_repo_url")
    @classmethod
    def _found(cls, repo: str, info: ValidationInfo) -> str:
        base: Path | None = info.context
        return repo if base is None or is_url(repo) else str((base / repo).resolve())

    @property
    def training(self) -> TrainingConfiguration:
        """The training configuration."""
        return self.training_configuration

    @property
    def builds_image(self) -> bool:
        """Whether an image of the trained model is to be built."""
        return BUILD in self.post_training_steps

    @property
    def deploys_image(self) -> bool:
        """Whether the trained model is to be served."""
        return DEPLOY in self.post_training_steps

    def clusters(self, asked: int | None) -> int:
        """How many clusters there are; `asked` is what --clusters says.

        Raises:
            UsageError: there can be none.
        """
        if self.training.hierarchical:
            return asked or CLUSTERS
        if asked:
            raise UsageError(
                f"--clusters {asked}: the project's mode is classic, set it to hierarchical "
                "or leave --clusters out"
            )
        return 0

    def leading(self, clusters: int = 0) -> dict[str, Any]:
        """The options of the aggregator that is no cluster's: role, rounds, minimums.

        Args:
            clusters: How many there are, if the mode is hierarchical.
        """
        training = self.training
        if training.hierarchical:
            minimums = dict.fromkeys(MINIMUMS, clusters)
            return {"role": "root", "rounds": training.training_cycles, **minimums}
        return {"role": "classic", "rounds": training.training_rounds, **training.minimums}

    def leading_a_cluster(self) -> dict[str, Any]:
        """The options of a cluster's aggregator: role, rounds, minimums."""
        training = self.training
        return {"role": "cluster", "rounds": training.training_rounds, **training.minimums}


def read_sla(file: Path) -> Sla:
    """Read an SLA from JSON, or from YAML if the file is named so.

    A repository's relative path starts at the file's folder.

    Raises:
        UsageError: it cannot be read, or has mistakes; the message has each with its place.
    """
    document = read_document(file)
    try:
        sla, error = Sla.model_validate(document.values, context=file.absolute().parent), None
    except ValidationError as invalid:
        sla, error = None, invalid
    found = mistakes(error, Sla, document)
    if sla and not found:
        return sla
    if len(found) == 1:
        raise UsageError(f"{file}: {found[0]}")
    raise UsageError("\n  ".join([f"{file} has {len(found)} mistakes:", *found]))
