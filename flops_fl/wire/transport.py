"""The gRPC channel below the streams: what both ends agree on."""

from __future__ import annotations

METHOD = "/flops.Federation/Join"

PING_TIMEOUT = 60.0
"""Seconds: on a slow link an answer waits behind the tensors that were sent before it."""


def channel_arguments(max_message: int, keepalive: float) -> list[tuple[str, int]]:
    """Arguments of a channel or a server that takes messages of at most `max_message` bytes.

    gRPC pings idle links every `keepalive` seconds, so that no proxy drops them during a long fit.
    A machine that has vanished acknowledges nothing: TCP ends the connection half as long again
    after a ping (TCP_USER_TIMEOUT, which gRPC sets to its keepalive timeout). Where somebody
    acknowledges and nobody answers, a frozen process or a proxy that swallows all, it ends
    `PING_TIMEOUT` seconds after the ping. (gRPC 1.85 never starts a shorter timer of its own.)
    Messages are not compressed: a model's weights do not shrink, and a small compressed message
    could expand to gigabytes.
    """
    pause = min(int(keepalive * 1000), (1 << 31) - 1)
    return [
        ("grpc.keepalive_time_ms", pause),
        ("grpc.keepalive_timeout_ms", pause // 2),
        ("grpc.http2.ping_timeout_ms", int(PING_TIMEOUT * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", max_message),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # only "identity"
    ]
