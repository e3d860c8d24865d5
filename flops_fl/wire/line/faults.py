"""What gRPC's errors mean to a learner."""

from __future__ import annotations

import re
import time
from typing import Any

import grpc

from flops_fl.errors import ProtocolError, Refused
from flops_fl.net.address import Address
from flops_fl.net.handshake import tls_fault
from flops_fl.net.tls import Tls

# What gRPC puts before the reason: "failed to ...; last error: UNKNOWN: ipv4:10.0.0.1:80: ".
_GRPC = re.compile(r"failed to connect to all addresses; last error: |\w+: ipv[46]:[^ ]+: ")
PAUSE = 1.0  # seconds between two looks at the TLS of one address


async def failed(call: Any) -> grpc.aio.AioRpcError:
    """The error that a stream ended with."""
    return grpc.aio.AioRpcError(
        await call.code(),
        await call.initial_metadata(),
        await call.trailing_metadata(),
        details=await call.details(),
    )


class Faults:
    """Explains the failures of calls to one address, however many lines there are."""

    def __init__(self, address: Address, tls: Tls | None) -> None:
        self._address = address
        self._tls = tls
        self._look_again = 0.0

    def explain(self, error: Any) -> str:
        """What a failed call means, in words. It may dial: not for an event loop.

        Raises:
            Refused, ProtocolError: trying again is of no use.
        """
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise ProtocolError("what answers there is no aggregator: check the port")
        details = str(error.details() or error.code().name)
        if error.code() is grpc.StatusCode.UNAVAILABLE and time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + PAUSE
            fault = tls_fault(self._address, self._tls)
            if fault:
                raise Refused(fault)
        # Without --tls-ca only gRPC knows whom it trusts.
        if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
            raise Refused(
                f"the certificate of {self._address} is not accepted ({details}): give the "
                "authority that signed it as --tls-ca"
            )
        return _GRPC.sub("", details)
