"""Who takes part in a project on this machine: learners, their clusters and their data."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flops_fl.actors.simulation import Share, learner_ids, tree
from flops_fl.data.folder import choose_files, is_data_file
from flops_fl.data.local import DataPlace, place_of
from flops_fl.errors import UsageError
from flops_fl.limits import MOST_LEARNERS
from flops_fl.net.address import PLAIN, WITH_TLS
from flops_fl.options.data import NO_DATA, DataOptions
from flops_fl.options.learner import LearnerOptions
from flops_fl.options.project import ProjectRunOptions
from flops_fl.options.reading import build
from flops_fl.process.temporary import temporary_folder
from flops_fl.project.sla import Sla
from flops_fl.run.folder import shown
from flops_fl.text import counted, some

log = logging.getLogger(__name__)

_DIGITS = re.compile(r"(\d+)", re.ASCII)
_TAGGED = re.compile(r"([^=/:]+)=(.+)")


@dataclass(frozen=True, slots=True)
class Team:
    """The learners of a project, each with its data."""

    learners: Sequence[str]
    clusters: Mapping[str, Sequence[str]]
    """The learners of each cluster; empty in classic mode."""
    tags: Sequence[str]
    sources: Mapping[str, str] = field(default_factory=dict)
    """What is split among the learners, by the tag that it gets."""
    places: Sequence[str] = ()
    """Folders or data servers, which learners take in turn."""

    def data_of(self, index: int) -> dict[str, Any]:
        """Where a learner finds its data, as LearnerOptions; of what is split, see `shares`."""
        if not self.places:
            return {}
        return {"data": self.places[index % len(self.places)], "data_tags": list(self.tags)}

    def require_data(self, options: ProjectRunOptions) -> None:
        """Look for the data in each place, without reading them; a server is waited for.

        Raises:
            FlopsError: a place has no data of the project's tags, or a server is away.
        """
        for place in self.places:
            values = {"data": place, "insecure": options.insecure}
            DataPlace(place_of(build(DataOptions, values)), self.tags, "learner").state()

    @contextmanager
    def shares(self, options: ProjectRunOptions) -> Iterator[list[Share]]:
        """The learners by the place of their data, which lasts as long as the context."""
        if not self.sources:
            count = max(1, len(self.places))
            extra = {"insecure": options.insecure}
            yield [
                Share(self.learners[index::count], self.data_of(index) | extra)
                for index in range(min(count, len(self.learners)))
            ]
            return
        with temporary_folder("flops-fl-data-") as folder:
            for tag, source in self.sources.items():
                self._split(tag, source, folder, options)
            yield [Share(self.learners, {"data": str(folder), "data_tags": "{id}"})]

    def _split(self, tag: str, source: str, folder: Path, options: ProjectRunOptions) -> None:
        from flops_fl.data.sources import load_source, require_source

        require_source(source)
        log.info("data: %s as %s (--data), %s", source, tag, options.partition)
        from flops_fl.data.partition import write_partitions

        write_partitions(
            load_source(source, resize=options.resize),
            [f"{learner}.{tag}" for learner in self.learners],
            folder,
            scheme=options.partition,
            seed=options.seed,
            remedy="make room there, or set TMPDIR to another folder",
        )


def team_of(sla: Sla, options: ProjectRunOptions) -> Team:
    """The learners that a project gets here.

    Raises:
        UsageError: there are too few learners, or there is no data for them.
    """
    places, sources = _data(sla, options)
    clusters, each = sla.clusters(options.clusters), sla.training.min_available_clients
    if options.learners and options.learners < each:
        raise UsageError(
            f"--learners {options.learners}: min_available_clients is {each}, so many are waited "
            f"for{' in each cluster' if clusters else ''}; raise it to {each}"
        )
    least = (options.learners or each) * (clusters or 1)
    count = least if options.learners else max(least, len(places))
    require_few(clusters, options.learners or each)
    ids = learner_ids(count)
    if len(places) > count:
        log.warning("no learner takes the data of %s: raise --learners", some(places[count:]))
    elif 0 < len(places) < count:
        log.warning(
            "%d learners share the data of %s: those of one place train on the same rows",
            count, counted(len(places), "place"),
        )  # fmt: skip
    return Team(ids, tree(ids, clusters), sla.training.data_tags, sources, places)


def require_few(clusters: int, each: int) -> None:
    """Refuse more learners in all clusters together than could ever be started.

    Raises:
        UsageError: there are more.
    """
    if clusters * each > MOST_LEARNERS:
        raise UsageError(
            f"{each:,} learners in each of {clusters:,} clusters: expected at most "
            f"{MOST_LEARNERS:,} in all, lower --clusters, or --learners and min_available_clients"
        )


def _data(sla: Sla, options: ProjectRunOptions) -> tuple[list[str], dict[str, str]]:
    """The places where data are, and the sources to be split, by tag."""
    tags, places, sources = sla.training.data_tags, list[str](), dict[str, str]()
    for said in options.data:
        found = _TAGGED.fullmatch(said)
        if said == NO_DATA:
            pass
        elif found and not Path(said).exists():
            sources[found[1]] = found[2]
        else:
            places += _places(said, tags, options)
    if places and sources:
        raise UsageError(
            f"--data {places[0]} and {next(iter(sources))}=...: give places where data are, or "
            "TAG=SOURCE, which is split here"
        )
    if foreign := [tag for tag in sources if tag not in tags]:
        raise UsageError(
            f"--data {foreign[0]}={sources[foreign[0]]}: the project's data_tags are "
            f"{some(tags) or 'none'}, give one of them"
        )
    if tags and not options.data:
        raise UsageError(
            f"no data for the project's data_tags ({some(tags)}): give --data FOLDER or --data "
            f"grpc://HOST:PORT for each learner, --data {tags[0]}=SOURCE to split a dataset, or "
            "--data none if the repository has its own"
        )
    if sources and len(sources) < len(tags):
        log.warning("no data for %s (--data)", some([tag for tag in tags if tag not in sources]))
    return places, sources


def _places(said: str, tags: Sequence[str], options: ProjectRunOptions) -> list[str]:
    """A place, or the folders with data that it has.

    Raises:
        UsageError: nothing there can be read.
    """
    if said.startswith(f"{WITH_TLS}://"):
        raise UsageError(
            f"--data {said}: the learners of project run have no certificates. Give "
            f"{PLAIN}://HOST:PORT, or start all actors by hand (docs/several-machines.md)"
        )
    if not said.startswith(f"{PLAIN}://"):
        path = Path(said).absolute()
        if not path.exists():
            tag = tags[0] if tags else "TAG"
            raise UsageError(
                f"--data {said} does not exist: expected a folder, a file or grpc://HOST:PORT, or "
                f"{tag}=SOURCE to split a dataset"
            )
        found = [path] if not path.is_dir() or _has_data(path) else _below(path) or [path]
        for each in found:
            choose_files(each, tags)
        return list(map(str, found))
    values = {"repo": "", "aggregator": "127.0.0.1:1", "data": said, "insecure": options.insecure}
    build(LearnerOptions, values)
    return [said]


def _below(path: Path) -> list[Path]:
    """The folders with data in a folder, in the order of the numbers in their names."""
    folders = [each for each in path.iterdir() if each.is_dir()]
    found = [each for each in folders if _has_data(each)]
    if found and (empty := [each.name for each in folders if each not in found]):
        log.warning("no data in %s of %s: no learner takes it", some(empty), shown(path))
    return sorted(found, key=lambda each: _numbers(each.name))


def _has_data(path: Path) -> bool:
    return any(map(is_data_file, path.iterdir()))


def _numbers(name: str) -> list[tuple[int, str]]:
    return [(int(part or 0), "") if part.isdecimal() else (0, part) for part in _DIGITS.split(name)]
