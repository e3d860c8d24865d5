"""Flower's Strategy classes, fed in a stream.

A strategy chooses who fits and evaluates, and what becomes of the mean of the updates.
Choosing is Flower's own `configure_fit` and `configure_evaluate`, over a ClientManager
that samples by seed and round, so that the same run chooses the same learners anywhere.
FedAvg's result is the mean itself: no tensor is converted or serialised for it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from flwr.common import Parameters as FlowerParameters
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg

from flops_fl.errors import UsageError
from flops_fl.types import Scalar, Stage

STRATEGIES = {"FedAvg": FedAvg}

_NOT_SENT = FlowerParameters(tensors=[], tensor_type="flops")
"""Stands for the global model in Flower's calls: the wire sends it once, not they."""


def flower_strategy(name: str, options: Mapping[str, Any]) -> Any:
    """Build one of Flower's strategies by name.

    Raises:
        UsageError: no such strategy, or options that it does not take.
    """
    if name not in STRATEGIES:
        raise UsageError(f"no strategy {name!r}: choose from {', '.join(sorted(STRATEGIES))}")
    try:
        return STRATEGIES[name](**options)
    except TypeError as error:
        raise UsageError(f"strategy {name} cannot be built: {error}") from None


class SeededCohort(ClientManager):  # type: ignore[misc]
    """The learners present, for one choice; samples depend on seed, round and stage only."""

    def __init__(self, learners: Sequence[str], seed: int, round: int, stage: Stage) -> None:
        self._proxies = {name: _Named(name) for name in sorted(learners)}
        text = f"{seed}/{round}/{stage}/select".encode()
        self._random = random.Random(hashlib.sha256(text).digest())

    def num_available(self) -> int:
        return len(self._proxies)

    def register(self, client: ClientProxy) -> bool:
        return self._proxies.setdefault(client.cid, client) is client

    def unregister(self, client: ClientProxy) -> None:
        self._proxies.pop(client.cid, None)

    def all(self) -> dict[str, ClientProxy]:
        return dict(self._proxies)

    def wait_for(self, num_clients: int, timeout: int = 0) -> bool:
        return len(self._proxies) >= num_clients  # whoever asks has waited already

    def sample(
        self, num_clients: int, min_num_clients: int | None = None, criterion: Any = None
    ) -> list[ClientProxy]:
        chosen = [p for p in self._proxies.values() if criterion is None or criterion.select(p)]
        if len(chosen) < max(num_clients, min_num_clients or 0):
            return []
        return self._random.sample(chosen, num_clients)


class _Named(ClientProxy):  # type: ignore[misc]
    """A learner's name in Flower's calls; it answers none of them itself."""

    def _absent(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("the wire talks to learners, not Flower's proxies")

    get_properties = get_parameters = fit = evaluate = reconnect = _absent


class Selector:
    """Ask a Flower strategy whom to send to, and with which config."""

    def __init__(self, strategy: Any, seed: int) -> None:
        self.strategy = strategy
        self.seed = seed

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str]
    ) -> dict[str, dict[str, Scalar]]:
        """Config by learner id, in id order; empty if the strategy finds too few present."""
        cohort = SeededCohort(learners, self.seed, round, stage)
        configure = (
            self.strategy.configure_fit if stage == "fit" else self.strategy.configure_evaluate
        )
        chosen = configure(round, _NOT_SENT, cohort)
        return {proxy.cid: dict(ins.config) for proxy, ins in sorted(chosen, key=_cid)}


def _cid(pair: tuple[ClientProxy, Any]) -> str:
    return str(pair[0].cid)
