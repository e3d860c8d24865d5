"""Connecting to the aggregator: when to try again, when to give up, what to report."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from flops_fl import limits
from flops_fl.errors import ProtocolError, Unreachable
from flops_fl.net.address import Address
from flops_fl.net.tls import Tls
from flops_fl.text import sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class DialOptions:
    """How to reach the aggregator, and how long to try. Times in seconds."""

    address: Address
    tls: Tls | None = None
    connect_timeout: float = limits.CONNECT_TIMEOUT
    reconnect_timeout: float = limits.RECONNECT_TIMEOUT
    backoff: float = 0.2
    max_backoff: float = limits.MAX_BACKOFF
    greeting_timeout: float = limits.GREETING_TIMEOUT
    keepalive: float = limits.KEEPALIVE
    remind: float = limits.REMIND
    stay: bool = False
    whom: str = "aggregator"
    again: str = "--reconnect-timeout"
    """The option that sets `reconnect_timeout`."""
    on_event: Callable[[str, str], None] = lambda learner, event: None
    """Called with the learner and, in words, what happened."""
    on_presence: Callable[[str, bool], None] = lambda learner, connected: None


class Redial:
    """The waits of one learner between its conversations."""

    def __init__(self, learner: str, options: DialOptions) -> None:
        self._learner = learner
        self._options = options
        self._whom = f"{options.whom} at {options.address}"
        self._wait = options.backoff
        self._last_contact = self._let_in = time.monotonic()
        self._welcomed = self._connected = False
        self._said, self._pause = 0.0, 0.0

    def welcomed(self) -> None:
        """The aggregator let the learner in: reports start over."""
        self._welcomed = self._connected = True
        self._let_in, self._pause = time.monotonic(), 0.0
        self._options.on_presence(self._learner, True)
        self._options.on_event(self._learner, f"connected to the {self._whom}")

    def failed(self, why: str, *, patient: bool = False) -> float:
        """Report a failed or lost connection; returns the seconds to wait before the next try.

        Args:
            why: What went wrong, in words.
            patient: Never give up.

        Raises:
            Unreachable: the aggregator has been away longer than the timeout.
        """
        self._options.on_presence(self._learner, False)
        lost, self._connected = self._connected, False
        if lost:
            self._last_contact = time.monotonic()  # the connection was open until now
            # An aggregator that lets in and hangs up at once is not dialled without a pause.
            if self._last_contact - self._let_in >= self._wait:
                self._wait = self._options.backoff
        away = time.monotonic() - self._last_contact
        limit, name = self._options.connect_timeout, "--connect-timeout"
        if self._welcomed:
            limit, name = self._options.reconnect_timeout, self._options.again
        if away > limit and not patient:
            raise Unreachable(
                f"no {self._whom} for {away:.0f} s ({name}): {why}. Check the address, and that "
                f"the {self._options.whom} runs"
            )
        self._tell(why, away, lost)
        # Jitter, so that a thousand learners do not return in the same moment
        # (Brooker 2015, "Exponential Backoff And Jitter").
        wait = random.SystemRandom().uniform(0.5, 1.0) * self._wait
        self._wait = min(self._wait * 2, self._options.max_backoff)
        return wait

    def broke_protocol(self, error: ProtocolError) -> ProtocolError:
        """The error of an aggregator that sends what the protocol does not allow."""
        return ProtocolError(
            f"the {self._whom} broke the protocol: {sentence(str(error))}. Install the same "
            "version of flops-fl on both"
        )

    def _tell(self, why: str, away: float, lost: bool) -> None:
        """Report it once, then again after `remind` seconds and ever longer pauses."""
        if lost:
            event = f"disconnected ({why}), trying again"
        elif self._pause and time.monotonic() < self._said + self._pause:
            return
        else:
            since = f", {away:.0f} s by now" if self._pause else ""
            event = f"waiting for the {self._whom}{since} ({why})"
        self._said, self._pause = time.monotonic(), self._pause * 2 or self._options.remind
        self._options.on_event(self._learner, event)
