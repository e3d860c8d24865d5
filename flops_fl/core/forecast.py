"""How long a round takes and what it sends, in a tree of aggregators: calculated, not measured.

In a round, an aggregator sends one model to each child and gets one update from each. A learner
keeps the model of each evaluation for the next fit, so the two together send it once. The root's
evaluation sends a cluster's learners the model that its next cycle starts from, so R rounds of a
cycle send R models. Messages beside models are left out: some hundred bytes for each child and
stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """What a machine's link carries, in bytes a second."""

    up: float
    down: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What there is to do.

    Args:
        model: Bytes of its parameters.
        seconds: A learner's fit and evaluation.
        cycle: Rounds that a cluster plays in each round of the aggregator above it.
    """

    model: int
    seconds: float
    cycle: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """A round of a tree's root."""

    levels: tuple[int, ...]
    """How many there are of each level below the root; learners last."""
    rounds: int
    """That each learner trains in it."""
    seconds: float
    root_sends: int
    """Bytes, here and below."""
    root_receives: int
    all_links: int
    """Sent by aggregators and learners alike."""


def forecast(levels: Sequence[int], work: Work, aggregators: Link, learners: Link) -> Forecast:
    """Reckon a round.

    A level's children share the link of their aggregator, and each has its own. Transfers to all
    children go on at the same time; a level begins when it has the whole model.

    Args:
        levels: See `Forecast.levels`.
        aggregators: The link of the root, and of each cluster.
        learners: The link of each learner.
    """
    seconds, sent = work.seconds, 0
    for depth in reversed(range(len(levels))):
        above = levels[depth - 1] if depth else 1
        children = -(-levels[depth] // above)
        child = learners if depth == len(levels) - 1 else aggregators
        down = max(children / aggregators.up, 1 / child.down) * work.model
        up = max(children / aggregators.down, 1 / child.up) * work.model
        seconds = (down + seconds + up) * (work.cycle if depth else 1)
        sent += 2 * levels[depth] * work.model * work.cycle**depth
    return Forecast(
        levels=tuple(levels),
        rounds=work.cycle ** (len(levels) - 1),
        seconds=seconds,
        root_sends=levels[0] * work.model,
        root_receives=levels[0] * work.model,
        all_links=sent,
    )


def layouts(learners: int, clusters: int | None, most: int) -> list[tuple[int, ...]]:
    """Flat, and with one to `most` levels of clusters, where all aggregators have two children.

    Args:
        clusters: Directly below the root, and one level of them whatever they have below them;
            default: such that all aggregators have as many children.
    """
    found: list[tuple[int, ...]] = [(learners,)]
    for depth in range(1, most + 1):
        first = clusters or round(learners ** (1 / (depth + 1)))
        growth = (learners / first) ** (1 / depth)
        levels = [round(first * growth**level) for level in range(depth)] + [learners]
        even = all(2 * few <= many for few, many in pairwise(levels))
        if first > 1 and (even or (clusters and depth == 1)):
            found.append(tuple(levels))
    return found
