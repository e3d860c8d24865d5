"""Listen on an address, or say in a sentence why not."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from flops_fl.errors import UsageError
from flops_fl.net.address import Address


def bound(listen: Address, option: str = "--listen") -> socket.socket:
    """A TCP socket that is bound to an address, which `option` has given, and listens.

    Raises:
        UsageError: it cannot be had, such as since another process listens there.
    """
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as failing:
            made = failing.enter_context(socket.socket(family, kind, protocol))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(target)
            made.listen()
            failing.pop_all()
    except OSError as error:
        raise UsageError(
            f"cannot listen on {listen}: {error.strerror}. Choose another {option}, or stop "
            "what uses that port"
        ) from None
    return made
