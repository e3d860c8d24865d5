"""Data servers as a learner or a sender dials them: patiently, with an end, and clear errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flops_fl import limits
from flops_fl.errors import DataError, NoSuchFlight, Refused, Unreachable
from flops_fl.net.address import PLAIN, WITH_TLS, DataServer
from flops_fl.net.handshake import Ends, tls_fault
from flops_fl.net.tls import Tls
from flops_fl.text import sentence

if TYPE_CHECKING:
    from pyarrow import flight

log = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER = 30.0  # seconds that a server may take for a call that transports no rows
ENDS = Ends(
    here="client",
    there="data server",
    role="data",
    option="its URL",
    with_tls=f"{WITH_TLS}://HOST:PORT instead of {PLAIN}://HOST:PORT",
    without=f"with {PLAIN}://HOST:PORT",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FlightData:
    """Where a learner's data are, and how it dials there. Times in seconds."""

    servers: tuple[DataServer, ...]
    tls: Tls | None
    cache: Path | None = None
    connect_timeout: float = limits.CONNECT_TIMEOUT
    max_backoff: float = limits.MAX_BACKOFF
    keepalive: float = limits.KEEPALIVE

    def dial(self, server: DataServer) -> Dialled:
        """A client of one of the servers; it connects at its first call."""
        return Dialled(server, self)


class Dialled:
    """A client of one data server, which tries again until `connect_timeout` has passed."""

    def __init__(self, server: DataServer, how: FlightData) -> None:
        self.server = server
        self._how = how
        self._client: flight.FlightClient | None = None
        self._heard = 0

    @property
    def patience(self) -> float:
        """Seconds in which it tries again."""
        return self._how.connect_timeout

    @property
    def max_backoff(self) -> float:
        """Seconds between two trials at most."""
        return self._how.max_backoff

    def __enter__(self) -> Dialled:
        return self

    def __exit__(self, *error: object) -> None:
        self._hang_up()

    def call(
        self,
        step: Callable[[flight.FlightClient, flight.FlightCallOptions], T],
        *,
        once: bool = False,
    ) -> T:
        """Do what can be repeated; `step` gets the client and the options of a short call.

        Args:
            once: Do not repeat it.

        Raises:
            Unreachable: the server did not answer in time.
            Refused: it does not let us in, or TLS fails.
            NoSuchFlight: it does not have what was asked for.
            DataError: it refuses for another reason.
        """
        from pyarrow import flight

        patience = self._how.connect_timeout
        end, pause, said = time.monotonic() + patience, 0.1, False
        options = flight.FlightCallOptions(timeout=max(1.0, min(ANSWER, patience)))
        most = 0
        while True:
            self._heard = 0
            try:
                with _explained(self.server):
                    return step(self._connected(), options)
            except _Away as away:
                self._hang_up()
                if once:
                    raise Unreachable(f"the connection to {self.server} was cut: {away}") from None
                fault = tls_fault(self.server.address, self._tls, ENDS)
                if fault:
                    raise Refused(fault) from None
                if self._heard > most:
                    most, end, pause = self._heard, time.monotonic() + patience, 0.1
                left = end - time.monotonic()
                if left <= 0:
                    raise Unreachable(
                        f"no data server has answered at {self.server} for {patience:g} s "
                        f"({away}): start it, or check host and port"
                    ) from None
                if not said:
                    log.info("waiting for the data server at %s (%s)", self.server, away)
                    said = True
                time.sleep(min(pause, left))
                pause = min(2 * pause, self._how.max_backoff)

    def heard(self, size: int) -> None:
        """Tell how much has come: after a trial with more than before, `call` is patient anew."""
        self._heard = size

    @property
    def _tls(self) -> Tls | None:
        return (self._how.tls or Tls()) if self.server.tls else None

    def _connected(self) -> flight.FlightClient:
        from pyarrow import flight

        if self._client is None:
            pause = int(self._how.keepalive * 1000)
            self._client = flight.FlightClient(
                str(self.server),
                # gRPC ends a connection whose other end has vanished.
                generic_options=[
                    ("grpc.keepalive_time_ms", pause),
                    ("grpc.keepalive_timeout_ms", pause // 2),
                    # Each client has a connection of its own, which another's end does not cut.
                    ("grpc.use_local_subchannel_pool", 1),
                ],
                **(self._tls.for_flight() if self._tls else {}),
            )
        return self._client

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class _Away(Exception):
    """Nobody answers at the moment."""


@contextmanager
def _explained(server: DataServer) -> Iterator[None]:
    """Turn pyarrow's errors into ours."""
    import pyarrow as pa
    from pyarrow import flight

    try:
        yield
    except (flight.FlightUnauthorizedError, flight.FlightUnauthenticatedError) as error:
        raise Refused(f"{server}: {_reason(error)}") from error
    except pa.ArrowKeyError as error:
        raise NoSuchFlight(f"{server}: {_reason(error)}") from error
    except flight.FlightError as error:  # unavailable, timed out, reset, cancelled
        raise _Away(_reason(error)) from error
    except pa.ArrowException as error:
        raise DataError(f"{server}: {_reason(error)}") from error
    except OSError as error:
        raise _Away(_reason(error)) from error


def _reason(error: Any) -> str:
    """What the server said, without what pyarrow and gRPC put around it."""
    said = str(error).partition(". gRPC client debug context")[0].partition(". Detail:")[0]
    return sentence(said.rpartition("with message: ")[2] or type(error).__name__, 400)
