"""A ClientManager for Flower's strategies; its samples depend on seed, round and stage only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy

from flops_fl.core.seeding import selection
from flops_fl.errors import FederationError
from flops_fl.types import Stage


def check_chosen(chosen: Sequence[str], learners: Collection[str], who: str) -> None:
    """Check that a strategy, `who`, chose among the learners present, each at most once.

    Raises:
        FederationError: it did not.
    """
    for cid, times in Counter(chosen).items():
        if times > 1:
            raise FederationError(
                f"{who} chooses learner {cid} {times} times, expected at most once: a learner has "
                "one task at a time"
            )
        if cid not in learners:
            raise FederationError(
                f"{who} chooses learner {cid!r:.60}, which is not present: expected one of "
                "client_manager.all()"
            )


class SeededCohort(ClientManager):  # type: ignore[misc]
    """The learners that are present when a strategy chooses among them."""

    def __init__(self, learners: Sequence[str], seed: int, round: int, stage: Stage) -> None:
        self._proxies = {name: Named(name) for name in sorted(learners)}
        self._random = selection(seed, round, stage)

    def num_available(self) -> int:
        return len(self._proxies)

    def register(self, client: ClientProxy) -> bool:
        return self._proxies.setdefault(client.cid, client) is client

    def unregister(self, client: ClientProxy) -> None:
        self._proxies.pop(client.cid, None)

    def all(self) -> dict[str, ClientProxy]:
        return dict(self._proxies)

    def wait_for(self, num_clients: int, timeout: int = 0) -> bool:
        return len(self._proxies) >= num_clients  # the round has already waited for learners

    def sample(
        self, num_clients: int, min_num_clients: int | None = None, criterion: Any = None
    ) -> list[ClientProxy]:
        chosen = [p for p in self._proxies.values() if criterion is None or criterion.select(p)]
        if len(chosen) < max(num_clients, min_num_clients or 0):
            return []
        return self._random.sample(chosen, num_clients)


class Named(ClientProxy):  # type: ignore[misc]
    """A learner's id in Flower's calls; a strategy cannot call the learner through it."""

    def get_properties(self, *_: Any, **__: Any) -> Any:
        """See `_absent`."""
        self._absent("get_properties")

    def get_parameters(self, *_: Any, **__: Any) -> Any:
        """See `_absent`."""
        self._absent("get_parameters")

    def fit(self, *_: Any, **__: Any) -> Any:
        """See `_absent`."""
        self._absent("fit")

    def evaluate(self, *_: Any, **__: Any) -> Any:
        """See `_absent`."""
        self._absent("evaluate")

    def reconnect(self, *_: Any, **__: Any) -> Any:
        """See `_absent`."""
        self._absent("reconnect")

    def _absent(self, call: str) -> None:
        """Refuse: a strategy only chooses learners, and rounds ask them and collect the answers.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{call} of learner {self.cid} cannot be called here: the rounds ask learners to fit "
            "and to evaluate. A strategy knows only a learner's id, proxy.cid"
        )
