"""What `--strategy` may name, with options that work for whole parameters.

Flower's defaults fit the tasks of one paper, or there is no default. The defaults here are from
the papers, too. We have tried them on the mean of parameters that learners have trained:
docs/operation.md has the table, and ``python examples/strategies.py`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flwr.server.strategy as flower
from flwr.common import FitRes, Parameters
from flwr.server.client_proxy import ClientProxy

from flops_fl.flower.kinds import FlowerChoice, FlowerMean, FlowerOptimiser
from flops_fl.flower.opaque import Cyclic, FlowerOpaque
from flops_fl.flower.strategy import FlowerStrategy
from flops_fl.flower.xgboost import Bagging, FlowerBagging


class MultiKrum(flower.Krum):  # type: ignore[misc]
    """Flower's Krum; by default it keeps n - f - 2 of n updates, if f may be malicious.

    Flower keeps a single update by default, which has seen only one learner's data. See Blanchard
    et al. 2017, arXiv:1703.02757, section 4.

    Args:
        num_clients_to_keep: -1 keeps n - f - 2 updates; 0 keeps a single one, as in Flower.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int = 0,
        num_clients_to_keep: int = -1,
        accept_failures: bool = True,
        **others: Any,
    ) -> None:
        super().__init__(
            num_malicious_clients=num_malicious_clients,
            num_clients_to_keep=num_clients_to_keep,
            accept_failures=accept_failures,
            **others,
        )
        self._told = num_clients_to_keep

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[Any]
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """See `flwr.server.strategy.Krum`."""
        if self._told < 0:
            self.num_clients_to_keep = max(1, len(results) - self.num_malicious_clients - 2)
        made: tuple[Parameters | None, dict[str, Any]]
        made = super().aggregate_fit(server_round, results, failures)
        return made


@dataclass(frozen=True, slots=True)
class Entry:
    """How we build and use one of Flower's classes."""

    make: Callable[..., Any]
    kind: type[FlowerStrategy]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Options that replace Flower's defaults."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Options that would have no effect, and why."""


_ETA_L = {"eta_l": "it is the learners' own learning rate: set it in the repository's fit_model"}
_NO_STEP = dict.fromkeys(
    ("eta", "eta_l", "beta_1", "beta_2", "tau"),
    "Flower's FedOpt is the mean: choose FedAvgM, FedAdam, FedYogi or FedAdagrad for a step",
)
_NONE = Parameters(tensors=[], tensor_type="")
CATALOGUE = {
    # Li et al. 2020, arXiv:1812.06127, try 0.001 to 1.
    "FedProx": Entry(flower.FedProx, FlowerMean, {"proximal_mu": 0.1}),
    "FedOpt": Entry(partial(flower.FedOpt, initial_parameters=_NONE), FlowerMean, {}, _NO_STEP),
    # Hsu et al. 2019, arXiv:1909.06335; Reddi et al. 2021, arXiv:2003.00295, for Shakespeare.
    "FedAvgM": Entry(
        flower.FedAvgM, FlowerOptimiser, {"server_momentum": 0.9, "server_learning_rate": 0.3}
    ),
    # Reddi et al.: tau of CIFAR-100, eta of Shakespeare and Stack Overflow. With CIFAR-100's eta
    # of 1.0 FedYogi diverged for some rounds. Adagrad's tau is as large as its eta, so that no
    # step is longer than the mean's.
    "FedAdam": Entry(flower.FedAdam, FlowerOptimiser, {"eta": 0.5, "tau": 0.1}, _ETA_L),
    "FedYogi": Entry(flower.FedYogi, FlowerOptimiser, {"eta": 0.3, "tau": 0.1}, _ETA_L),
    "FedAdagrad": Entry(flower.FedAdagrad, FlowerOptimiser, {"eta": 0.3, "tau": 0.3}, _ETA_L),
    "FedMedian": Entry(flower.FedMedian, FlowerChoice),
    "FedTrimmedAvg": Entry(flower.FedTrimmedAvg, FlowerChoice),
    "FaultTolerantFedAvg": Entry(flower.FaultTolerantFedAvg, FlowerChoice),
    "Krum": Entry(MultiKrum, FlowerChoice),
    # Flower's Bulyan calls its Krum without the number to keep, an argument without a default.
    "Bulyan": Entry(flower.Bulyan, FlowerChoice, {"to_keep": 0}),
    "FedXgbBagging": Entry(Bagging, FlowerBagging),
    "FedXgbCyclic": Entry(Cyclic, FlowerOpaque),
}
NAMES = ("FedAvg", *CATALOGUE)
FOR_OPAQUE = [name for name, entry in CATALOGUE.items() if issubclass(entry.kind, FlowerOpaque)]
FOR_TENSORS = [name for name in NAMES if name not in FOR_OPAQUE]
WRAPS = (
    "it wraps another strategy: write a function in the repository that returns both in one, and "
    "give --strategy MODULE:FUNCTION"
)
UNFIT = {
    **{
        f"DifferentialPrivacy{side}Side{kind}Clipping": WRAPS
        for side in ("Client", "Server")
        for kind in ("Fixed", "Adaptive")
    },
    "DPFedAvgFixed": WRAPS,
    "DPFedAvgAdaptive": WRAPS,
    "QFedAvg": "it judges models on data of the server's own, which an aggregator does not have",
    "FedAvgAndroid": "its clients send another format; Android learners can use FedAvg",
}
NEEDS_CONFIG = {"FedProx": "proximal_mu"}
"""Strategies that need code in `fit_model`, and the entry of `config` which that code reads."""
