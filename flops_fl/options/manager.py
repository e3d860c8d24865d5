"""The FLOps manager's arguments, turned into options: how it starts the actors of an image.

It gives arguments by their place, and settings of the image by the environment. Whatever our
options need besides has a value here, which the environment (``FLOPS_...``) replaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flops_fl.errors import UsageError
from flops_fl.net.address import PLAIN, WITH_TLS, Address
from flops_fl.options.data import PORT as DATA_PORT
from flops_fl.options.described import flag, variable

PORT = 8080
"""Where aggregators listen, as the manager expects."""
DATA = Path("/data")
"""Where a node's Parquet files are mounted."""
NODE = "172.17.0.1"
"""The node, seen from a container in Docker's default network: FLOps' learners look there."""
FLAVOR = "ML_MODEL_FLAVOR"

LEARNER = ("PROJECT-ID", "MQTT-BROKER", "OBSERVER", "AGGREGATOR", "DATA-TAGS")
AGGREGATOR = (
    *("PROJECT-ID", "MQTT-BROKER", "OBSERVER", "TRACKING-URL", "TYPE", "ITERATIONS"),
    *("MIN-AVAILABLE", "MIN-FIT", "MIN-EVALUATE"),
)
FLAGS = ("--track-locally", "--deactivate-notifications")
TYPES = {
    "CLASSIC_AGGREGATOR": "classic",
    "ROOT_AGGREGATOR": "root",
    "CLUSTER_AGGREGATOR": "cluster",
}


@dataclass(frozen=True, slots=True)
class Start:
    """How an actor is started."""

    options: list[str]
    """Of ``flops-fl learner`` or ``flops-fl aggregator``, after the repository."""
    notes: list[str]
    """What was asked for and is not done, or was not said and is assumed, a sentence each."""


def from_manager(
    role: str, arguments: Sequence[str], environ: Mapping[str, str], data: Path = DATA
) -> Start:
    """Translate the manager's arguments.

    Args:
        role: ``learner`` or ``aggregator``.
        data: Used where the environment names no data; if it is missing, the node's data server.

    Raises:
        UsageError: an argument is missing, too many, or of no use.
    """
    flags = [each for each in arguments if each.startswith("--")]
    places = [each for each in arguments if not each.startswith("--")]
    known = FLAGS if role == "aggregator" else FLAGS[1:]
    for each in flags:
        if each not in known:
            raise UsageError(f"{each} after the FLOps manager's arguments: expected {known[-1]}")
    start = _learner(places, environ, data) if role == "learner" else _aggregator(places, flags)
    options = ["--project-id", places[0], *start.options, *_defaults(role, start.options, environ)]
    if FLAGS[1] not in flags and not environ.get(variable("notify")):
        options += ["--notify", f"mqtt://{_host(places[1])},tcp://{_host(places[2])}"]
    return Start(options, start.notes)


def _learner(places: Sequence[str], environ: Mapping[str, str], data: Path) -> Start:
    _expect(places, LEARNER)
    _, _, _, aggregator, tags = places
    options = ["--aggregator", _at(aggregator), "--data-tags", tags]
    if environ.get(variable("data")):
        return Start(options, [])
    if data.exists():
        return Start([*options, "--data", str(data)], [])
    server = f"{WITH_TLS if _has_tls(environ) else PLAIN}://{NODE}:{DATA_PORT}"
    note = (
        f"the data are read from the node's data server, {server}: set {variable('data')} to "
        f"another one, or mount a folder with files named TAG.<anything>.parquet at {data}"
    )
    return Start([*options, "--data", server], [note])


def _aggregator(places: Sequence[str], flags: Sequence[str]) -> Start:
    role = TYPES.get(places[4]) if len(places) > 4 else "classic"
    if role is None:
        raise UsageError(f"the aggregator type {places[4]}: expected {', '.join(TYPES)}")
    _expect(places, AGGREGATOR + (("ROOT-AGGREGATOR",) if role == "cluster" else ()))
    _, _, _, tracking, _, rounds, *minimums = places
    options = ["--role", role, "--rounds", rounds]
    names = ("--min-available-clients", "--min-fit-clients", "--min-evaluate-clients")
    for name, value in zip(names, minimums, strict=False):
        options += [name, value]
    notes = []
    if role == "cluster":
        options += ["--root", _at(places[-1])]
        notes.append(f"nothing is tracked at {tracking}: the root aggregator tracks the project")
    elif FLAGS[0] not in flags:
        options += ["--tracking-uri", tracking]
    return Start(options, notes)


def _expect(places: Sequence[str], names: Sequence[str]) -> None:
    if len(places) != len(names):
        raise UsageError(
            f"{len(places)} arguments ({' '.join(places)}): expected {len(names)}, as the FLOps "
            f"manager gives them: {' '.join(names)}. Or give options, see --help"
        )


def _defaults(role: str, given: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Options that the manager has no arguments for."""
    values = {"connect_timeout": "3600"}  # an actor may be started long before the one it dials
    if role == "aggregator":
        values = values if "--root" in given else {}
        values |= {"listen": f"0.0.0.0:{PORT}"}
        if environ.get(FLAVOR):
            values |= {"model_flavor": environ[FLAVOR]}
    wanted = {name: value for name, value in values.items() if not environ.get(variable(name))}
    options = [part for name, value in wanted.items() for part in (flag(name), value)]
    if role == "learner":
        options.append("--stay")  # for the next cycle; the manager removes the container
    if not _has_tls(environ):
        options.append("--insecure")  # as FLOps is: it has no certificates
    return options


def _has_tls(environ: Mapping[str, str]) -> bool:
    return bool(environ.get(variable("tls_ca")) or environ.get(variable("tls_cert")))


def _host(host: str) -> str:
    """A host of the manager's as it stands in a URL."""
    return f"[{host}]" if host.count(":") > 1 and host[0] != "[" else host


def _at(host: str) -> str:
    """An address of the manager's, which may have no port."""
    has_port = "]:" in host or host.count(":") == 1
    try:
        bare = host.removeprefix("[").removesuffix("]")
        return str(Address.parse(host) if has_port else Address(bare, PORT))
    except ValueError as error:
        raise UsageError(str(error)) from None
