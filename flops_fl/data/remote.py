"""`flops-fl data put`, `ls`, `rm` and `show`: a data server in a person's hand."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from flops_fl.data.command import cut_source
from flops_fl.data.content import ContentHash
from flops_fl.data.flights import list_flights, read_batches
from flops_fl.data.folder import is_saved
from flops_fl.data.names import has_tag, tag_of
from flops_fl.data.rows import Rows, rows_in_folder, rows_of
from flops_fl.data.sending import Sent, send
from flops_fl.data.servers import Dialled, FlightData
from flops_fl.data.split import draw_histogram
from flops_fl.data.store import Found
from flops_fl.data.tables import features_of
from flops_fl.errors import NoSuchFlight, UsageError
from flops_fl.options.data import DialOptions, PartitionOptions, ServerOptions, ShowOptions
from flops_fl.process.answer import Answer
from flops_fl.process.drawing import asked_for, require_drawing
from flops_fl.text import counted, some

WIDTH = 40  # characters of the longest bar
TAGS = 8  # that a message names
BARS = 30  # values of a label that are shown


def dialling(options: DialOptions) -> FlightData:
    """How the options say that servers are dialled."""
    return FlightData(
        servers=options.servers,
        tls=options.tls(),
        connect_timeout=options.connect_timeout,
    )


def put(source: str, tag: str, options: ServerOptions) -> Sent:
    """Put a source, or a Parquet file, on the server.

    Raises:
        FlopsError: the source cannot be read, or see `send`.
    """
    with dialling(options).dial(options.server) as dialled:
        return send(_rows_of_source(source), tag, dialled, bar=True)


def _rows_of_source(source: str) -> Rows:
    from flops_fl.data.sources import load_source, path_of

    path = Path(source)
    if path.suffix == ".parquet" and path.is_file():
        return rows_of(path)
    found = path_of(source)
    return rows_in_folder(found) if found and not is_saved(found) else rows_of(load_source(source))


def put_parts(options: PartitionOptions) -> list[Sent]:
    """Cut a source, and put part I under the tag TAG.I; the servers take turns.

    Raises:
        FlopsError: see `cut_source` and `send`.
    """
    dataset, cut = cut_source(options.source, options.parts, options.tag, **options.cut())
    how = dialling(options)
    with ExitStack() as stack:
        dialled = [stack.enter_context(how.dial(server)) for server in how.servers]
        return [
            send(rows_of(dataset.select(rows)), f"{options.tag}.{index}", one, bar=True)
            for (index, rows), one in zip(cut.items(), cycle(dialled), strict=False)
        ]


def ls(options: ServerOptions, tags: Sequence[str], answer: Answer | None) -> None:
    """List what the server has."""
    with dialling(options).dial(options.server) as dialled:
        found = sorted(list_flights(dialled, tags), key=lambda flight: flight.name)
    if answer is not None:
        facts = [{"name": f.name, "rows": f.rows, "bytes": f.size} for f in found]
        answer.give({"server": str(options.server), "flights": facts})
        return
    for flight in found:
        sys.stdout.write(f"{flight.rows:>10} rows {flight.size / 1e6:>10.2f} MB  {flight.name}\n")


def rm(options: ServerOptions, what: str) -> None:
    """Drop the data of one name, or all of one tag.

    Raises:
        NoSuchFlight: the server has none.
    """
    with dialling(options).dial(options.server) as dialled:
        for flight in _chosen(dialled, what):
            dialled.call(partial(_drop, flight.name))
            sys.stdout.write(f"{flight.name}: dropped\n")


def _drop(name: str, client: Any, options: Any) -> None:
    from pyarrow import flight as arrow

    list(client.do_action(arrow.Action("drop_dataset", name.encode()), options))


def show(options: ShowOptions, answer: Answer | None) -> None:
    """Show rows, features, hash and how often each label occurs, of one name or of all of a tag.

    Raises:
        NoSuchFlight: the server has none.
        UsageError: the picture cannot be drawn.
    """
    if options.picture:
        require_drawing()
    shown = _Shown(options.label)
    with dialling(options).dial(options.server) as dialled:
        flights = _chosen(dialled, options.name)
        for flight in flights:
            for batch in read_batches(flight):
                shown.add(str(flight), batch)
    labels, names = shown.labels, [flight.name for flight in flights]
    if options.picture:
        _draw(labels, options)
    kinds = {name: str(kind) for name, kind in (shown.features or {}).items()}
    if answer is not None:
        said = {"flights": names, "rows": shown.rows, "hash": shown.hash}
        answer.give({**said, "features": kinds, "labels": labels})
        return
    lines = [f"{counted(shown.rows, 'row')} in {some(names)}"]
    lines += [f"  {name}: {kind}" for name, kind in kinds.items()]
    lines += [f"hash of these rows: {shown.hash}"] if shown.hash else []
    sys.stdout.write("\n".join([*lines, *_histogram(options.label, labels), ""]))


class _Shown:
    """What is known of rows after batch by batch was added."""

    def __init__(self, label: str) -> None:
        import datasets  # noqa: F401 - registers the Arrow extension types of its features

        self.rows = 0
        self.features: Any = None
        self._label = label
        self._found = Counter[Any]()
        self._hash: ContentHash | None = None
        self._agree = True

    def add(self, name: str, batch: Any) -> None:
        features = features_of(name, batch.schema)
        if self.features is None:
            self.features, self._hash = features, ContentHash(features.arrow_schema)
        self._agree = self._agree and features == self.features
        if self._hash and self._agree:
            self._hash.add(batch.select(list(self.features)))
        self.rows += len(batch)
        if self._label in batch.schema.names:
            for pair in batch.column(self._label).value_counts():
                self._found[pair["values"].as_py()] += pair["counts"].as_py()

    @property
    def hash(self) -> str | None:
        """That of a learner that has these data; None if they cannot be joined."""
        return self._hash.hexdigest() if self._hash and self._agree else None

    @property
    def labels(self) -> dict[str, int]:
        """How often each value of the label's column occurs, in the order of the values."""
        names = getattr((self.features or {}).get(self._label), "names", None)
        return {
            str(names[value]) if names and isinstance(value, int) and 0 <= value < len(names)
            else str(value): count
            for value, count in sorted(
                self._found.items(), key=lambda pair: (str(type(pair[0])), pair[0])
            )
        }  # fmt: skip


def _draw(labels: dict[str, int], options: ShowOptions) -> None:
    path = options.picture
    assert path is not None
    if not labels:
        raise UsageError(
            f"--picture {path}: the data have no column '{options.label}', see --label"
        )
    with asked_for(path):
        draw_histogram(labels, path, f"{options.name}: {options.label}")


def _histogram(label: str, labels: dict[str, int]) -> list[str]:
    if not labels:
        return [f"there are no values of a column '{label}' to count: --label names another"]
    most, width = max(labels.values()), max(map(len, labels))
    lines = [f"{label}:"]
    for name, count in list(labels.items())[:BARS]:
        bar = "#" * max(1, round(WIDTH * count / most))
        lines.append(f"  {name:>{width}} {bar} {count}")
    more = len(labels) - BARS
    return [*lines, f"  and {more} more values"] if more > 0 else lines


def _chosen(dialled: Dialled, what: str) -> list[Found]:
    """The flight of this name, or those of this tag."""
    there = sorted(list_flights(dialled), key=lambda flight: flight.name)
    chosen = [f for f in there if f.name == what] or [f for f in there if has_tag(f.name, [what])]
    if not chosen:
        tags = some({tag_of(flight.name) for flight in there}, TAGS)
        known = f"the tags there are {tags}" if tags else "there is nothing"
        raise NoSuchFlight(f"no data at {dialled.server} have the name or tag {what}: {known}")
    return chosen
