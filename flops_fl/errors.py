"""Every error that this runtime raises on purpose, by who is at fault.

FlopsError                  exit code
├── UsageError              2    options, files and addresses from the operator
│   └── DataError           2    the training data: none matches, cannot be read
│       ├── NoSuchFlight    2    the data server has no data of this name
│       └── NoRoom          2    the data server's quota or disk is full
├── RepositoryError         3    the user's ML repository: its code or its shape
├── FederationError         4    the federation as a whole: quorum, deadline
│   └── Unreachable         4    nobody answered
├── Refused                 5    identity or TLS: not let in
├── ProtocolError           4    the peer broke the wire protocol
└── BadUpdate               -    one learner's update; only that learner fails

Only `process.main` turns errors into exit codes. A message has one or two sentences: the value,
what was expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


class FlopsError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class UsageError(FlopsError):
    """Options, files or addresses that cannot be used."""

    exit_code = 2


class DataError(UsageError):
    """Training data that cannot be found or read."""


class NoSuchFlight(DataError):
    """The data server has no data of this name."""


class NoRoom(DataError):
    """The data server's quota or disk has no room for more."""


class RepositoryError(FlopsError):
    """The user's ML repository breaks the contract, or its code raised.

    Args:
        message: One sentence for a person.
        stage: The step that failed: ``import``, ``__init__``, ``fit_model``, ...
        traceback: The user's own traceback if their code raised; else empty.
        line: The line in the file that the message names; 0 if there is none.
    """

    exit_code = 3

    def __init__(self, message: str, *, stage: str, traceback: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.stage = stage
        self.traceback = traceback
        self.line = line


class FederationError(FlopsError):
    """The federation cannot go on: no quorum, a deadline, nobody left."""

    exit_code = 4


class Unreachable(FederationError):
    """Nobody answers at the address of an aggregator or a data server."""


class ProtocolError(FlopsError):
    """The other side sent something that the protocol does not allow."""

    exit_code = 4


class Refused(FlopsError):
    """The aggregator does not let this learner in."""

    exit_code = 5


class BadUpdate(FlopsError):
    """A learner's update that must not touch the global model."""


Abort: TypeAlias = Callable[[FlopsError | None], None]
"""Ends a run from outside: with an error, or (None) as if somebody had interrupted it."""
