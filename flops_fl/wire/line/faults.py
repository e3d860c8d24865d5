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
from flops_fl.text import sentence

# gRPC's prefix of a reason: "failed to ...; last error: UNKNOWN: ipv4:10.0.0.1:80: ".
_GRPC = re.compile(r"failed to connect to all addresses; last error: |\w+: ipv[46]:[^ ]+: ")
PAUSE = 1.0  # seconds between two probes of an address's TLS


async def failed(call: Any) -> grpc.aio.AioRpcError:
    """The error with which a stream ended."""
    return grpc.aio.AioRpcError(
        await call.code(),
        await call.initial_metadata(),
        await call.trailing_metadata(),
        details=await call.details(),
    )


class Faults:
    """Explains failed calls to one address; all lines of a process share it."""

    def __init__(self, address: Address, tls: Tls | None) -> None:
        self._address = address
        self._tls = tls
        self._look_again = 0.0

    def explain(self, error: Any) -> str:
        """Say in words why a call failed. May connect and block: do not call on an event loop.

        Raises:
            Refused, ProtocolError: trying again cannot help.
        """
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise ProtocolError(
                f"the server at {self._address} is not an aggregator: check host and port"
            )
        details = str(error.details() or error.code().name)
        if error.code() is grpc.StatusCode.UNAVAILABLE and time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + PAUSE
            fault = tls_fault(self._address, self._tls)
            if fault:
                raise Refused(fault)
        # Without --tls-ca gRPC uses its own list of authorities, which `tls_fault` cannot check.
        if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
            raise Refused(
                f"the certificate of {self._address} is not accepted ({sentence(details)}): give "
                "the authority that signed it as --tls-ca"
            )
        return sentence(_GRPC.sub("", details))
