"""A whole federation on one machine: the usual aggregator and learners, on loopback."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flops_fl.actors.hosts import Hosts
from flops_fl.errors import Abort
from flops_fl.net.address import Address
from flops_fl.options.data import NO_DATA
from flops_fl.options.federation import FederationOptions, SimulateOptions
from flops_fl.options.limits import HubLimits
from flops_fl.process.answer import Answer
from flops_fl.process.prints import LEARNERS
from flops_fl.process.signals import ending_at_once, raise_on_signals
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.source import checkout
from flops_fl.text import counted, numbered

if TYPE_CHECKING:
    from flops_fl.actors.lead import Ended
    from flops_fl.data.split import Split

log = logging.getLogger(__name__)

# Options of the simulation that hold for its clusters as for the root.
_PASSED_ON = (
    "round_timeout", "join_timeout", "grace", "mismatch", "max_failures", "max_update_norm",
    "large_updates", *HubLimits.model_fields,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Share:
    """Learners that find their data in the same place."""

    learners: Sequence[str]
    data: Mapping[str, Any]
    """LearnerOptions that say where."""


def simulate(options: SimulateOptions, answer: Answer) -> int:
    """Split the data into a part for each learner, and train; returns the exit code.

    Raises:
        FlopsError: wrong options or data, a broken repository, a learner that cannot start.
    """
    found: list[Split] = []

    def draw(folder: Path, result: Mapping[str, Any]) -> None:
        for split in found:
            _draw(split, folder, f"{options.data}, {options.partition}")

    return federate(options, _split(options, found.append), answer, on_end=draw)


@contextmanager
def _split(options: SimulateOptions, on_split: Callable[[Split], None]) -> Iterator[list[Share]]:
    ids = learner_ids(options.learners)
    with temporary_folder("flops-fl-data-") as folder:
        if options.data != NO_DATA:
            from flops_fl.data.sources import require_source

            require_source(options.data)
            log.info("data: %s (--data), %s", options.data, options.partition)
        parts, split = _written(options, ids, folder)
        if split:
            from flops_fl.data.split import table

            for line in table(split, "learner"):
                log.info("%s", line)
            on_split(split)
        yield [Share(ids, {"data": str(parts) if parts else None, "data_tags": "{id}"})]


def federate(
    options: SimulateOptions,
    data: AbstractContextManager[Sequence[Share]],
    answer: Answer,
    *,
    minimums: Mapping[str, int] | None = None,
    on_end: Ended | None = None,
) -> int:
    """Train with an aggregator in this process and learners, also clusters, in others.

    Args:
        options: Their options on data are not read.
        data: Gives all learners; entered once the repository is there.
        minimums: Updates and evaluations that a cluster needs; default: of all its learners.
        on_end: Called with the run's folder and result.json once it has ended.

    Returns:
        The exit code.

    Raises:
        FlopsError: wrong options or data, a broken repository, a learner that cannot start.
    """
    raise_on_signals()
    processes = min(options.processes or os.cpu_count() or 1, options.learners)
    leading = options.for_aggregator()
    with Hosts() as hosts:  # first, so that it imports while the aggregator does
        with ending_at_once():
            from flops_fl.actors.aggregator import aggregate
            from flops_fl.run.folder import shown

        with checkout(options.repo, options.clone_timeout) as repo, data as shares:
            ids = sorted(learner for share in shares for learner in share.learners)

            def start(address: Address, folder: Path, abort: Abort) -> None:
                prints = folder / LEARNERS
                if not options.resume:
                    shutil.rmtree(prints, ignore_errors=True)
                hosted = list(_hosted(shares, processes))
                log.info(
                    "%s, %s; they print to %s",
                    counted(len(ids), "learner"), counted(len(hosted), "process"), shown(prints),
                )  # fmt: skip
                common = {
                    "repo": str(repo.path),
                    "aggregator": str(address),
                    "threads": options.threads,
                    "seed": options.seed,
                    "log_folder": str(prints),
                    "log_size": options.log_size,
                    "keepalive": options.keepalive,
                    "quiet": True,
                }
                members = tree(ids, options.clusters or 0)
                cluster_of = {learner: name for name, own in members.items() for learner in own}
                clusters = {name: len(own) for name, own in members.items()}
                led = cluster_options(options, repo.path, address, minimums)
                told = [{**led, "clusters": own} for own in _dealt(clusters, processes)]
                told += [{**common, **_of_learners(share, cluster_of)} for share in hosted]
                hosts.start(told, abort)

            code = aggregate(
                leading, start, answer=answer, greeted_under=options.seed, on_end=on_end
            )
            if code == 0:
                hosts.wait()
            return code


def _of_learners(share: Share, cluster_of: Mapping[str, str]) -> dict[str, Any]:
    """What only the process of these learners is told."""
    clusters = {name: cluster_of[name] for name in share.learners if name in cluster_of}
    return {**share.data, "learner_id": ",".join(share.learners), "cluster_of": clusters}


def _hosted(shares: Sequence[Share], processes: int) -> Iterator[Share]:
    """The learners of each process; those of different data have different processes."""
    learners = sum(len(share.learners) for share in shares)
    for share in shares:
        count = max(1, min(processes * len(share.learners) // learners, len(share.learners)))
        for index in range(count):
            yield Share(share.learners[index::count], share.data)


def tree(ids: Sequence[str], clusters: int) -> dict[str, list[str]]:
    """The learners of each cluster; the clusters' sizes differ by one at most."""
    names = numbered("cluster-", clusters)
    return {name: list(ids[index::clusters]) for index, name in enumerate(names)}


def cluster_options(
    options: SimulateOptions, repo: Path, root: Address, minimums: Mapping[str, int] | None
) -> dict[str, Any]:
    """The options of every cluster's aggregator, with the run's seed."""
    return {
        "repo": str(repo),
        "role": "cluster",
        "root": str(root),
        "listen": "127.0.0.1:0",
        "rounds": options.cluster_rounds,
        **{name: getattr(options, name) for name in _PASSED_ON},
        **(minimums or {}),
        "seed": options.seed,
    }


def _dealt(clusters: Mapping[str, int], processes: int) -> list[dict[str, int]]:
    """The clusters of each process that hosts some: half as many as learner processes."""
    hosts, names = min(max(1, processes // 2), len(clusters)), list(clusters)
    shares = [names[index::hosts] for index in range(hosts)]
    return [{name: clusters[name] for name in share} for share in shares]


def learner_ids(count: int) -> list[str]:
    """The names of a simulation's learners."""
    return numbered("learner-", count)


def write_parts(options: FederationOptions, ids: Sequence[str], folder: Path) -> Path | None:
    """Split the data into files in `folder`, one for each learner, tagged with its id.

    Returns:
        The folder; None with `--data none`.

    Raises:
        FlopsError: there is no such data, or it cannot be split that way.
    """
    return _written(options, ids, folder)[0]


def _written(
    options: FederationOptions, ids: Sequence[str], folder: Path
) -> tuple[Path | None, Split | None]:
    """See `write_parts`; also the split by labels, if there are any and a partition was given."""
    if options.data == NO_DATA:
        return None, None
    from flops_fl.data.partition import partition, write_cut
    from flops_fl.data.sources import load_source
    from flops_fl.data.split import split_of

    folder_first = Path(options.data)  # one may be called as a known dataset is
    source = str(folder_first.absolute()) if folder_first.is_dir() else options.data
    dataset = load_source(source, resize=options.resize)
    parts = partition(dataset, len(ids), scheme=options.partition, seed=options.seed)
    cut = dict(zip(ids, parts, strict=True))
    write_cut(
        dataset,
        cut,
        folder,
        remedy="make room there, raise the limit of a file's size (ulimit -f), or set TMPDIR to "
        "another folder",
    )
    asked = "partition" in options.model_fields_set
    return folder, split_of(dataset, cut) if asked else None


def _draw(split: Split, folder: Path, title: str) -> None:
    from flops_fl.data.split import draw_split
    from flops_fl.process.drawing import can_draw
    from flops_fl.run.folder import shown
    from flops_fl.run.result import PARTITION

    if not can_draw():
        return  # the history's picture has said so
    try:
        draw_split(split, folder / PARTITION, title)
        log.info("how the labels are split: %s", shown(folder / PARTITION))
    except Exception as fault:  # a picture does not spoil a run
        log.warning("cannot draw how the labels are split into %s (%s)", folder, fault)
