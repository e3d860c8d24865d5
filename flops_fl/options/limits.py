"""Limits that users seldom change, grouped by the actors that they limit."""

from __future__ import annotations

from flops_fl import limits
from flops_fl.options.common import Options
from flops_fl.options.described import LIMITS, option
from flops_fl.options.kinds import Seconds, Size


class CommonLimits(Options):
    """Limits of every actor that has the repository."""

    clone_timeout: Seconds = option(
        "how long Git may take to fetch the repository",
        LIMITS,
        limits.CLONE_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )


class ConnectionLimits(Options):
    """Limits of both ends of a connection."""

    keepalive: Seconds = option(
        "time between pings on a quiet connection, which is given up if no answer comes in half "
        "of it",
        LIMITS,
        limits.KEEPALIVE,
        metavar="SECONDS",
        advanced=True,
    )
    remind: Seconds = option(
        "time until the log mentions a wait again; it doubles each time",
        LIMITS,
        limits.REMIND,
        metavar="SECONDS",
        advanced=True,
    )


class PrintLimits(Options):
    """Limits of actors that keep what learners print."""

    log_size: Size = option(
        "size at which a learner's ID.log is moved aside",
        LIMITS,
        limits.LOG_SIZE,
        metavar="SIZE",
        advanced=True,
    )


class StallLimits(ConnectionLimits):
    """Limits of a stream at the end that listens."""

    stall_timeout: Seconds = option(
        "how long the next MiB of a stream, in either direction, may take",
        LIMITS,
        limits.STALL_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )


class HubLimits(StallLimits):
    """Limits of the aggregator's end of a connection."""

    memory_budget: Size = option(
        "memory for updates that wait to be aggregated",
        LIMITS,
        limits.MEMORY_BUDGET,
        metavar="SIZE",
        advanced=True,
    )
    opaque_update: Size = option(
        "largest update that is accepted for a model without a mean",
        LIMITS,
        limits.OPAQUE_UPDATE,
        metavar="SIZE",
        advanced=True,
    )
    spool_patience: Seconds = option(
        "how long updates wait in memory for a late learner before they go to a file",
        LIMITS,
        limits.SPOOL_PATIENCE,
        metavar="SECONDS",
        advanced=True,
    )
    hello_timeout: Seconds = option(
        "how long a new connection may take to say who it is",
        LIMITS,
        limits.HELLO_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    goodbye_timeout: Seconds = option(
        "how long to wait until learners have heard that the training is over",
        LIMITS,
        limits.GOODBYE_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )


class LineLimits(ConnectionLimits):
    """Limits of a learner's end of a connection."""

    greeting_timeout: Seconds = option(
        "how long the aggregator may take to answer a greeting",
        LIMITS,
        limits.GREETING_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    max_backoff: Seconds = option(
        "longest pause between attempts to connect",
        LIMITS,
        limits.MAX_BACKOFF,
        metavar="SECONDS",
        advanced=True,
    )
