"""What gRPC's errors mean: a network fault is retried, a wrong configuration is not."""

import grpc
import pytest

from flops_fl.errors import ProtocolError, Refused
from flops_fl.net.address import Address
from flops_fl.wire.line.faults import Faults


def explain(failure):
    return Faults(Address("127.0.0.1", 1), None).explain(failure)  # where nobody listens


def error(details, code=grpc.StatusCode.UNAVAILABLE):
    metadata = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, metadata, metadata, details=details)


@pytest.mark.parametrize(
    ("details", "said"),
    [
        # Each was seen: a cable pulled while the connection was made, a server that is away.
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:80: tcp "
            "handshaker shutdown",
            "tcp handshaker shutdown",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv6:%5B::1%5D:80: Failed to "
            "connect to remote host: connect() timed out",
            "Failed to connect to remote host: connect() timed out",
        ),
        ("Socket closed", "Socket closed"),
    ],
)
def test_a_bad_network_is_tried_again(details, said):
    assert explain(error(details)) == said


@pytest.mark.parametrize(
    "details",
    [
        "Ssl handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL "
        "routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED",
        "Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification Check "
        "failed.",
    ],
)
def test_a_certificate_that_does_not_fit_is_final(details):
    with pytest.raises(Refused, match="--tls-ca"):
        explain(error(details))


def test_another_service_is_no_aggregator():
    with pytest.raises(ProtocolError, match="check host and port"):
        explain(error("Method not found!", grpc.StatusCode.UNIMPLEMENTED))
