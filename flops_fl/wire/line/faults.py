"""What gRPC's errors mean to a learner."""

from __future__ import annotations

from typing import Any

import grpc

from flops_fl.errors import ProtocolError, Refused


async def failed(call: Any) -> grpc.aio.AioRpcError:
    """The error that a stream ended with."""
    return grpc.aio.AioRpcError(
        await call.code(),
        await call.initial_metadata(),
        await call.trailing_metadata(),
        details=await call.details(),
    )


def explain(error: grpc.aio.AioRpcError) -> str:
    """What a failed call means, in words.

    Raises:
        Refused, ProtocolError: trying again is of no use.
    """
    details = error.details() or error.code().name
    # What the library for TLS found wrong. A "handshake" alone may be TCP's, on a bad network.
    if any(word in details.lower() for word in ("ssl routines", "ssl_error_ssl", "certificate")):
        raise Refused(
            f"TLS could not be set up ({details}): check --tls-ca, --tls-cert and --tls-key, and "
            "that the aggregator uses TLS, too"
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        raise ProtocolError("what answers there is no flops-fl aggregator: check the port")
    return str(details)
