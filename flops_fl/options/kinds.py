"""Types of option values, and how text from a command line or the environment is converted."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt

from flops_fl.limits import MOST_LEARNERS, MOST_ROUNDS
from flops_fl.net.address import Address, DataServer
from flops_fl.net.identity import EXPECTED, is_name, is_numbered
from flops_fl.net.target import Target
from flops_fl.process.drawing import FORMATS
from flops_fl.text import without_login

# HOST:PORT, USER@HOST:PORT, or USER:PASSWORD@HOST, where file:a@b is a path.
_MEANT_AS_HOST = re.compile(r"([\w.-]+@)?[\w.-]+:\d+(/.*)?|(?!file:)[^/:@]+:(?!/).*@.*")


def _no_url(value: Any) -> Any:
    if isinstance(value, str) and "://" in value:  # a Path would be a folder with the name https:
        raise ValueError("expected a path on this machine, not a URL")
    return value


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("expected an existing file")
    return path


def _project(name: str) -> str:
    if not re.fullmatch(r"[\w@:+=-][\w.@:+=-]{0,127}", name):
        raise ValueError("expected up to 128 letters, digits and _ . @ : + = -, no dot first")
    return name


def _registered(text: str) -> str:
    name, at, alias = text.partition("@")
    if not re.fullmatch(r"[^/:@]+", name) or (at and not _ALIAS.fullmatch(alias)):
        raise ValueError(
            "expected NAME or NAME@ALIAS: a name without / : @, an alias of letters, digits, _ and "
            "-, which is not latest and not like v1"
        )
    return text


def _tracking(uri: str) -> str:
    """Make a relative SQLite path absolute, since user code later has another working folder."""
    if _MEANT_AS_HOST.fullmatch(uri):  # to MLflow a folder, or a scheme it lacks
        raise ValueError(f"expected a scheme, such as http://{uri.rpartition('@')[2]}")
    head, name = "sqlite:///", uri.removeprefix("sqlite:///")
    relative = uri.startswith(head) and name and name[0] not in "/:"
    return head + str(Path(name).absolute()) if relative else uri


def is_in_mlflow(model: str) -> bool:
    """Whether it names a model of MLflow's, not a run's folder."""
    return model.startswith(("models:/", "runs:/"))


def _at_most(most: int, why: str) -> AfterValidator:
    def check(number: int) -> int:
        if number > most:
            raise ValueError(f"expected at most {most:,}, {why}")
        return number

    return AfterValidator(check)


FEW_ROUNDS = _at_most(MOST_ROUNDS, "since each checkpoint has the history of all rounds")
FEW_OF_ONE = _at_most(
    MOST_LEARNERS,
    "the most that one aggregator waits for: put cluster aggregators between learners and root",
)
FEW_HERE = _at_most(
    MOST_LEARNERS, "the most that one machine hosts: start others elsewhere, or take fewer"
)

_ALIAS = re.compile(r"(?!latest$|v\d+$)[\w-]+", re.ASCII | re.IGNORECASE)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# Relative paths start at the user's working folder; user code later runs in another one.
LocalPath = Annotated[Path, BeforeValidator(_no_url), AfterValidator(Path.absolute)]
ExistingFile = Annotated[LocalPath, AfterValidator(_existing)]
TrackingUri = Annotated[str, AfterValidator(_tracking)]
Rounds = Annotated[PositiveInt, FEW_ROUNDS]
Awaited = Annotated[PositiveInt, FEW_OF_ONE]
"""A number of learners, or of clusters, of one aggregator."""
Hosted = Annotated[PositiveInt, FEW_HERE]
"""A number of learners, or of clusters, on this machine."""
PositiveNumber = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Seconds = PositiveNumber
Threads = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
ProjectId = Annotated[str, AfterValidator(_project)]
Registered = Annotated[str, AfterValidator(_registered)]


def _commas(value: Any) -> Any:
    """One list from ``a,b``, given once or several times."""
    if isinstance(value, str):
        value = [value]
    return [part.strip() for item in value for part in item.split(",") if part.strip()]


def _pairs(value: Any) -> Any:
    """Numbers, booleans or text by name, from ``KEY=VALUE`` with commas or given several times."""
    if isinstance(value, Mapping):
        return value
    out: dict[str, Any] = {}
    for item in _commas(value):
        key, equals, text = (part.strip() for part in item.partition("="))
        if not (key and equals):
            raise ValueError(f"{without_login(item)!r}, expected KEY=VALUE")
        out[key.replace("-", "_")] = _literal(text)
    return out


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _size(value: Any) -> Any:
    """A number of bytes, or ``256MiB``; kilo is 1024 however it is written."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", value.strip().lower())
    if found is None:
        raise ValueError("expected a number of bytes, or 256MiB, 1.5GiB and so on")
    number, unit = found.groups()
    return int(float(number) * 1024 ** " kmgt".index(unit or " "))


def _rate(value: Any) -> Any:
    """Bytes a second, of ``20Mbit`` or ``2.5MB``; kilo is 1000, as links are sold."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]?)(bit|b)(?:/s)?", value.strip().lower())
    if found is None:
        raise ValueError("expected a rate such as 20Mbit, 1Gbit or 2.5MB, a second")
    number, unit, of = found.groups()
    return float(number) * 1000 ** " kmg".index(unit or " ") / (8 if of == "bit" else 1)


def _kept(value: Any) -> Any:
    return sys.maxsize if value == "all" else value


def _targets(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    ready = [item for item in value if isinstance(item, Target)]  # of another command's options
    return ready or [_target(text) for text in _commas(value)]


def _target(text: str) -> Target:
    try:
        return Target.parse(text)
    except ValueError as error:
        raise ValueError(f"{without_login(text)!r}, {error}") from None


def _address(value: Any) -> Any:
    return Address.parse(value) if isinstance(value, str) else value


def _server(value: Any) -> Any:
    return DataServer.parse(value) if isinstance(value, str) else value


def _learners_data(value: Any) -> Any:
    """A path, or data servers with commas."""
    if isinstance(value, str) and _names_servers(value):
        servers = tuple(DataServer.parse(each) for each in _commas(value))
        if twice := [str(server) for server in servers if servers.count(server) > 1]:
            raise ValueError(f"{twice[0]} is given twice: expected each server once")
        return servers
    return Path(value).absolute() if isinstance(value, str | Path) else value


def _names_servers(data: str) -> bool:
    """Whether no path is meant, even if it is no right address."""
    host = _MEANT_AS_HOST.fullmatch(data) is not None
    return "://" in data or (host and not Path(data).exists())


def _picture(path: Path) -> Path:
    if path.suffix not in FORMATS:
        raise ValueError(f"expected a file that ends with {' or '.join(FORMATS)}")
    return path


def _actor(name: str) -> str:
    if not is_name(name):
        raise ValueError(EXPECTED)
    if is_numbered(name):
        raise ValueError("expected another name, Flower's clients are called that")
    if len(name.encode()) > FILE_NAME_BYTES:
        raise ValueError(f"expected at most {FILE_NAME_BYTES} bytes, files are called by it")
    return name


def _host(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    if address is not None and "%" not in text:
        return str(address)
    if len(text) > 253 or not _HOST.fullmatch(text):
        raise ValueError(
            "expected a name such as root.example.org (xn--... for other letters), or an address, "
            "without a port"
        )
    return text.lower()


FILE_NAME_BYTES = 200  # most file systems take 255, and the file names have an ending
# Labels of RFC 1123. The last must not be a number: that would be a mistyped address.
_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_HOST = re.compile(rf"({_LABEL}\.)*(?!\d+$){_LABEL}", re.ASCII)

ActorName = Annotated[str, AfterValidator(_actor)]
Host = Annotated[str, AfterValidator(_host)]
Hosts = Annotated[list[Host], BeforeValidator(_commas)]
Listing = Annotated[list[str], BeforeValidator(_commas)]
Pairs = Annotated[dict[str, Any], BeforeValidator(_pairs)]
Kept = Annotated[int, BeforeValidator(_kept), Field(gt=0)]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Rate = Annotated[float, BeforeValidator(_rate), Field(gt=0, allow_inf_nan=False)]
Targets = Annotated[list[Target], BeforeValidator(_targets)]
HostPort = Annotated[Address, BeforeValidator(_address)]
Picture = Annotated[Path, AfterValidator(_picture)]
Server = Annotated[DataServer, BeforeValidator(_server)]
LearnersData = Annotated[Path | tuple[DataServer, ...], BeforeValidator(_learners_data)]
ServerList = Annotated[list[Server], BeforeValidator(_commas)]
