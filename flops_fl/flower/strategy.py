"""Flower's Strategy classes behind core's protocol: the code that all kinds share.

The kinds are in `kinds` and `opaque`; those for users' classes are in `own`. A strategy of Flower
chooses who fits and evaluates, and makes the next model from the updates.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common import Parameters as FlowerParameters
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import Strategy

from flops_fl.core.aggregation import Aggregation, Judgement, not_accepted, require_accepted
from flops_fl.core.refusals import finite
from flops_fl.dtypes import OPAQUE, dtype_of, kind_of
from flops_fl.errors import FederationError, FlopsError
from flops_fl.flower.selection import Named, SeededCohort, check_chosen
from flops_fl.flower.values import plain, recordable
from flops_fl.text import raised
from flops_fl.types import Array, Evaluation, Layout, Parameters, Scalar, Stage, Update

Bound: TypeAlias = Callable[[Update], Update] | None
Within: TypeAlias = Callable[[], AbstractContextManager[Any]]

_NOT_SENT = FlowerParameters(tensors=[], tensor_type="flops")
"""Stands for the global model in Flower's calls: our wire sends the model, not these calls."""


class FlowerStrategy:
    """One of Flower's strategies: it chooses learners, and its state can be saved.

    Args:
        name: The value of --strategy, for messages.
        flower: The object of Flower's class.
        options: What the object was built with, defaults included.
        seed: The seed of every choice of learners.
        layout: The layout of the global model.
        within: Returns a context in which the object's code runs.
    """

    foreign = False

    def __init__(
        self,
        name: str,
        flower: Any,
        options: Mapping[str, Scalar],
        *,
        seed: int,
        layout: Layout,
        within: Within = nullcontext,
    ) -> None:
        self.name = name
        self.options = options
        self.layout = layout
        self._flower = flower
        self._seed = seed
        self._within = within

    def initial(self, parameters: Parameters) -> Parameters:
        """The repository's model; see `core.aggregation.Strategy` for all methods."""
        return parameters

    def start(self, parameters: Parameters) -> None:
        """Put a model in the place of the one that Flower's class keeps, if it keeps any.

        Its optimisers step from that, and not from what the learners were sent.
        """

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str], parameters: Parameters
    ) -> dict[str, dict[str, Scalar]]:
        """Config by learner id, in id order; empty if the strategy finds too few present."""
        shown = self.shown(parameters)
        flower, cohort = self._flower, SeededCohort(learners, self._seed, round, stage)
        configure = flower.configure_fit if stage == "fit" else flower.configure_evaluate
        with self.called(f"in configure_{stage} of round {round}"):
            chosen = [(proxy.cid, ins) for proxy, ins in configure(round, shown, cohort)]
            check_chosen([cid for cid, _ in chosen], learners, f"strategy {self.name}")
            return {cid: self.told(cid, ins, shown) for cid, ins in sorted(chosen, key=_cid)}

    def shown(self, parameters: Parameters) -> FlowerParameters:
        """What `configure_fit` gets for the global model; Flower's own classes never read it."""
        return _NOT_SENT

    def told(self, learner: str, ins: Any, shown: FlowerParameters) -> dict[str, Scalar]:
        """The config of a learner's FitIns or EvaluateIns."""
        return dict(ins.config)

    def evaluate(self, round: int, parameters: Parameters) -> Judgement | None:
        """None: Flower's own classes have no data on the server."""
        return None

    def judge(
        self, round: int, evaluations: Sequence[Evaluation], failures: int
    ) -> Judgement | None:
        """None, unless a learner failed and the strategy accepts no failures."""
        if failures and not self.accepts_failures:
            return Judgement(missing=not_accepted(self.name, failures))
        return None

    @contextmanager
    def called(self, where: str, remedy: str = "") -> Iterator[None]:
        """A context for the strategy's code.

        Raises:
            FederationError: the code raised; a sentence says what and where.
        """
        try:
            with self._within():
                yield
        except FlopsError:
            raise
        except (Exception, SystemExit) as error:
            raise FederationError(
                f"strategy {self.name} failed {where} ({raised(error)}, "
                f"{_origin(self._flower, error)})"
                f"{remedy}"
            ) from error

    def aggregation(self, round: int, bound: Bound = None) -> Aggregation:
        """Begin a round's aggregation; `bound` limits an update's norm, or raises BadUpdate."""
        raise NotImplementedError

    def aggregate(
        self, round: int, results: list[tuple[ClientProxy, FitRes]], failures: int
    ) -> tuple[FlowerParameters | None, dict[str, Scalar]]:
        """The model and the metrics that Flower's class makes of a round's results.

        Raises:
            FederationError: its code raised, or it made no model.
        """
        self.require_accepted(failures)
        missing = [RuntimeError("no update")] * failures
        where = f"in round {round} with {len(results)} updates"
        with self.called(where, ": check --strategy-option"):
            parameters, metrics = self._flower.aggregate_fit(round, results, missing)
            if parameters is None:
                self.took_none(round, len(results), failures)
            return parameters, recordable(metrics)

    def took_none(self, round: int, results: int, failures: int) -> None:
        """Called if the class makes no model of a round's results.

        Raises:
            FederationError: always, so the round fails; a user's class keeps the old model.
        """
        raise FederationError(
            f"strategy {self.name} took none of round {round}'s {results} updates with "
            f"{failures} failures"
        )

    @property
    def accepts_failures(self) -> bool:
        """Whether a round goes on without learners that failed."""
        return bool(getattr(self._flower, "accept_failures", True))

    def require_accepted(self, failures: int) -> None:
        """Check that the strategy accepts this number of failures.

        Raises:
            FederationError: there are failures, and it accepts none.
        """
        require_accepted(self.name, failures, self.accepts_failures)

    def put(
        self,
        made: FlowerParameters,
        arrays: list[Array],
        indices: Sequence[int],
        taken: Collection[int] | None = None,
    ) -> None:
        """Put the tensors that Flower's class made into `arrays`.

        Args:
            indices: Indices of the tensors that it made.
            taken: Indices of those that count; all by default.

        Raises:
            FederationError: a tensor has another shape, or values that are not finite, though
                all updates were.
        """
        try:
            found = parameters_to_ndarrays(made)
        except Exception as error:  # what users' classes return is anything
            raise FederationError(
                f"strategy {self.name} returned a {type(made).__name__} that holds no arrays "
                f"({raised(error)}): expected "
                "flwr.common.ndarrays_to_parameters(arrays)"
            ) from error
        expected = [self.layout.tensors[index] for index in indices]
        shapes = [array.shape for array in found], [spec.shape for spec in expected]
        if shapes[0] != shapes[1]:
            raise FederationError(
                f"strategy {self.name} made arrays of the shapes {shapes[0]}, expected {shapes[1]}"
            )
        for index, spec, array in zip(indices, expected, found, strict=True):
            if taken is None or index in taken:
                with np.errstate(over="ignore", invalid="ignore"):  # checked below
                    values = array.astype(dtype_of(spec.dtype), copy=False)
                if kind_of(values.dtype) in "fc" and not finite(values):
                    raise FederationError(
                        f"strategy {self.name} made NaN or infinite values (tensor {index}, "
                        f"{spec}): check --strategy-option, or choose another strategy"
                    )
                arrays[index] = values

    def state(self) -> dict[str, Any]:
        """What the object remembers between rounds: bytes, lists of arrays, and plain values."""
        return _state_of(self._flower)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        _restore(self._flower, state)


def _origin(flower: Any, error: BaseException) -> str:
    """Where an error of a strategy comes from: its line, or its class if that returned nonsense."""
    ours = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(ours)]
    if theirs:
        return f"{theirs[-1].filename} line {theirs[-1].lineno}"
    kind = type(flower)
    codes = (getattr(member, "__code__", None) for member in vars(kind).values())
    files = [code.co_filename for code in codes if code]
    return f"from what class {kind.__name__} of {files[0] if files else kind.__module__} returned"


def _state_of(flower: Any) -> dict[str, Any]:
    """An object's state; that of a strategy it wraps has names such as ``strategy.momentum``."""
    out: dict[str, Any] = {}
    for name, value in vars(flower).items():
        if isinstance(value, FlowerParameters):
            out[name] = [np.frombuffer(data, OPAQUE) for data in value.tensors]
        elif isinstance(value, bytes):
            out[name] = [np.frombuffer(value, OPAQUE)]
        elif isinstance(value, list) and value and isinstance(value[0], np.ndarray | np.generic):
            out[name] = [np.asarray(item) for item in value]
        elif value is None or isinstance(value, bool | int | float | str):
            out[name] = value
        elif isinstance(value, Strategy):
            out |= {f"{name}.{inner}": kept for inner, kept in _state_of(value).items()}
    return out


def _restore(flower: Any, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        outer, _, inner = name.partition(".")
        if inner:
            _restore(getattr(flower, outer), {inner: value})
            continue
        now = getattr(flower, name, None)
        if isinstance(value, list) and value and value[0].dtype == OPAQUE:
            data = [array.tobytes() for array in value]
            value = data[0]  # noqa: PLW2901
            if isinstance(now, FlowerParameters):
                value = FlowerParameters(tensors=data, tensor_type=now.tensor_type)  # noqa: PLW2901
        setattr(flower, name, value)


def as_parameters(arrays: Parameters) -> FlowerParameters:
    """Arrays as Flower's Parameters, in dtypes that its code can read."""
    return ndarrays_to_parameters([plain(array) for array in arrays])


def fit_result(
    learner: str, parameters: FlowerParameters, examples: int, metrics: Mapping[str, Scalar]
) -> tuple[ClientProxy, FitRes]:
    """A learner's update in the form that Flower's classes take."""
    result = FitRes(
        status=Status(code=Code.OK, message=""),
        parameters=parameters,
        num_examples=examples,
        metrics=dict(metrics),
    )
    return Named(learner), result


def _cid(pair: tuple[str, Any]) -> str:
    return pair[0]
