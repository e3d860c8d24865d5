"""Limits that are seldom touched, of those whom they limit."""

from __future__ import annotations

from flops_fl import limits
from flops_fl.options.common import Options
from flops_fl.options.described import LIMITS, option
from flops_fl.options.kinds import Seconds, Size


class CommonLimits(Options):
    """Of every actor that has the repository."""

    clone_timeout: Seconds = option(
        "for Git to fetch the repository",
        LIMITS,
        limits.CLONE_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )


class ConnectionLimits(Options):
    """Of both ends of a connection."""

    keepalive: Seconds = option(
        "between pings on a quiet connection; one that is not answered in half of that is dead",
        LIMITS,
        limits.KEEPALIVE,
        metavar="SECONDS",
        advanced=True,
    )
    remind: Seconds = option(
        "after which a log speaks of a wait again, then twice as long, and so on",
        LIMITS,
        limits.REMIND,
        metavar="SECONDS",
        advanced=True,
    )


class PrintLimits(Options):
    """Of those that keep what learners print."""

    log_size: Size = option(
        "of a learner's ID.log, beyond which it is moved aside",
        LIMITS,
        limits.LOG_SIZE,
        metavar="SIZE",
        advanced=True,
    )


class HubLimits(ConnectionLimits):
    """Of the aggregator's end of the wire."""

    memory_budget: Size = option(
        "of updates in memory that wait to be folded",
        LIMITS,
        limits.MEMORY_BUDGET,
        metavar="SIZE",
        advanced=True,
    )
    opaque_update: Size = option(
        "of one update of a model without a mean, beyond which it is refused",
        LIMITS,
        limits.OPAQUE_UPDATE,
        metavar="SIZE",
        advanced=True,
    )
    spool_patience: Seconds = option(
        "before updates that wait for a late learner go to a file",
        LIMITS,
        limits.SPOOL_PATIENCE,
        metavar="SECONDS",
        advanced=True,
    )
    hello_timeout: Seconds = option(
        "for a new connection to say who it is",
        LIMITS,
        limits.HELLO_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    stall_timeout: Seconds = option(
        "for the next MiB of an update, or of what a learner is sent",
        LIMITS,
        limits.STALL_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    goodbye_timeout: Seconds = option(
        "for learners to hear that it is over",
        LIMITS,
        limits.GOODBYE_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )


class LineLimits(ConnectionLimits):
    """Of a learner's end of the wire."""

    greeting_timeout: Seconds = option(
        "for the aggregator to answer a greeting",
        LIMITS,
        limits.GREETING_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    max_backoff: Seconds = option(
        "the longest pause between tries to connect",
        LIMITS,
        limits.MAX_BACKOFF,
        metavar="SECONDS",
        advanced=True,
    )
