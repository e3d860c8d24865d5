"""A whole federation on one machine: the usual aggregator and learners, on loopback."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flops_fl.actors.hosts import Hosts
from flops_fl.errors import Abort
from flops_fl.net.address import Address
from flops_fl.options.data import NO_DATA
from flops_fl.options.federation import FederationOptions, SimulateOptions
from flops_fl.options.limits import HubLimits
from flops_fl.process.answer import Answer
from flops_fl.process.prints import LEARNERS
from flops_fl.process.signals import ending_at_once, raise_on_signals
from flops_fl.repo.source import checkout

log = logging.getLogger(__name__)

# Options of the simulation that hold for its clusters as for the root.
_PASSED_ON = (
    "round_timeout", "join_timeout", "grace", "mismatch", "max_failures", "max_update_norm",
    "large_updates", *HubLimits.model_fields,
)  # fmt: skip


def simulate(options: SimulateOptions, answer: Answer) -> int:
    """Split the data into a part for each learner, and train; returns the exit code.

    Raises:
        FlopsError: wrong options or data, a broken repository, a learner that cannot start.
    """
    raise_on_signals()
    ids = learner_ids(options.learners)
    processes = min(options.processes or os.cpu_count() or 1, len(ids))
    leading = options.for_aggregator()
    with Hosts() as hosts:  # first, so that it imports while the aggregator does
        with ending_at_once():
            from flops_fl.actors.aggregator import aggregate
            from flops_fl.run.folder import shown

        with (
            checkout(options.repo, options.clone_timeout) as repo,
            tempfile.TemporaryDirectory(prefix="flops-data-") as data,
        ):
            parts = write_parts(options, ids, Path(data))

            def start(address: Address, folder: Path, abort: Abort) -> None:
                prints = folder / LEARNERS
                if not options.resume:
                    shutil.rmtree(prints, ignore_errors=True)
                place = shown(prints)
                if parts:
                    log.info("data: %s (--data), %s", options.data, options.partition)
                log.info("%d learners, %d processes; they print to %s", len(ids), processes, place)
                common = {
                    "repo": str(repo.path),
                    "aggregator": str(address),
                    "data": str(parts) if parts else None,
                    "data_tags": "{id}",
                    "threads": options.threads,
                    "seed": options.seed,
                    "log_folder": str(prints),
                    "log_size": options.log_size,
                    "keepalive": options.keepalive,
                    "quiet": True,
                }
                tree = _tree(ids, options.clusters or 0)
                shares = [ids[index::processes] for index in range(processes)]
                members = {learner: name for name, own in tree.items() for learner in own}
                hosts.start(
                    [
                        *_clusters(options, tree, repo.path, address, processes),
                        *(
                            {
                                **common,
                                "learner_id": ",".join(share),
                                "cluster_of": {learner: members[learner] for learner in share}
                                if tree
                                else {},
                            }
                            for share in shares
                        ),
                    ],
                    abort,
                )

            code = aggregate(leading, on_listening=start, answer=answer, greeted_under=options.seed)
            if code == 0:
                hosts.wait()
            return code


def _tree(ids: Sequence[str], clusters: int) -> dict[str, list[str]]:
    """The learners of each cluster; the clusters' sizes differ by one at most."""
    names = numbered("cluster", clusters)
    return {name: list(ids[index::clusters]) for index, name in enumerate(names)}


def _clusters(
    options: SimulateOptions,
    tree: Mapping[str, Sequence[str]],
    repo: Path,
    root: Address,
    processes: int,
) -> list[dict[str, Any]]:
    """The options of the processes that host clusters: half as many as learner processes."""
    common = {
        "repo": str(repo),
        "role": "cluster",
        "root": str(root),
        "listen": "127.0.0.1:0",
        "rounds": options.cluster_rounds,
        **{name: getattr(options, name) for name in _PASSED_ON},
        "seed": options.seed,
    }
    hosts, names = min(max(1, processes // 2), len(tree)), list(tree)
    shares = [names[index::hosts] for index in range(hosts)]
    return [{**common, "clusters": {name: len(tree[name]) for name in share}} for share in shares]


def learner_ids(count: int) -> list[str]:
    """The names of a simulation's learners."""
    return numbered("learner", count)


def numbered(kind: str, count: int) -> list[str]:
    """Names such as ``learner-00``, with leading zeros, so that they sort by number."""
    digits = len(str(count - 1))
    return [f"{kind}-{index:0{digits}d}" for index in range(count)]


def write_parts(options: FederationOptions, ids: Sequence[str], folder: Path) -> Path | None:
    """Split the data into files in `folder`, one for each learner, tagged with its id.

    Returns:
        The folder; None with `--data none`.

    Raises:
        FlopsError: there is no such data, or it cannot be split that way.
    """
    if options.data == NO_DATA:
        return None
    from flops_fl.data.folder import load_folder
    from flops_fl.data.partition import write_partitions
    from flops_fl.data.sources import load_source

    source = Path(options.data)
    if source.is_dir():
        dataset = load_folder(source, [])
    else:
        dataset = load_source(options.data, resize=options.resize)
    write_partitions(
        dataset,
        ids,
        folder,
        scheme=options.partition,
        seed=options.seed,
        remedy="make room there, raise the limit of a file's size (ulimit -f), or set TMPDIR to "
        "another folder",
    )
    return folder
