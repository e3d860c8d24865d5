"""The data that learners train on: local folders, data servers, known sources and partitions.

This file imports little: `datasets` and `pyarrow` take about a second, and an aggregator needs
neither.
"""

from __future__ import annotations

import os
from typing import Any

from flops_fl.limits import CONNECT_TIMEOUT


def put(
    data: Any,
    *,
    tag: str,
    server: str,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> str:
    """Put rows on a data server, where learners find them by their tag; returns their name there.

    A table or a dataset gets a name from its content: the same rows again add nothing, and a put
    that was cut off goes on where it stopped. Batches of an iterable are sent as they come. If they
    are cut off, nothing is kept, and they must be put again.

    Args:
        data: A `pyarrow.Table`, a `pyarrow.RecordBatch`, a `datasets.Dataset`, a
            `pandas.DataFrame`, or an iterable of tables or batches that all have the same columns.
        tag: The data tag by which learners find it.
        server: ``grpc://HOST:PORT``, or with TLS ``grpc+tls://HOST:PORT``.
        tls_cert: The device's certificate, a PEM file.
        tls_key: Its private key, a PEM file.
        tls_ca: The authority of the server's certificate, a PEM file.
        connect_timeout: Seconds to try to reach the server.

    Raises:
        UsageError: an argument cannot be used.
        DataError: the server refuses the data; the message says why.
        Unreachable: the server does not answer, or the connection was cut.
        Refused: the server does not let us in, or TLS fails.
    """
    from pathlib import Path

    from flops_fl.data.rows import rows_of
    from flops_fl.data.sending import send
    from flops_fl.data.servers import FlightData
    from flops_fl.errors import UsageError
    from flops_fl.net.address import DataServer
    from flops_fl.net.tls import Tls

    try:
        where = DataServer.parse(server)
    except ValueError as error:
        raise UsageError(str(error)) from None
    cert, key, ca = (Path(file) if file else None for file in (tls_cert, tls_key, tls_ca))
    tls = Tls.read(cert, key, ca) if cert or ca else None
    how = FlightData(servers=(where,), tls=tls, connect_timeout=connect_timeout)
    with how.dial(where) as dialled:
        return send(rows_of(data), tag, dialled).name
