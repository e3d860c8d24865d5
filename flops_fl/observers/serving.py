"""The ``main.py`` of an image that serves a model: ``/invocations`` and ``/ping`` by MLflow.

It stands alone, since such an image has MLflow, and no flops-fl. It listens at ``FLOPS_LISTEN``, by
TLS if ``FLOPS_TLS_CERT`` and ``FLOPS_TLS_KEY`` name files; with ``FLOPS_TLS_CA`` clients need
certificates.
"""

import os
import socket
import ssl
import sys
import urllib.request
from pathlib import Path

MODEL = Path(__file__).with_name("model")


def serve(listen: str) -> None:
    """Answer by MLflow's scoring protocol until a signal comes."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import uvicorn
    from mlflow.pyfunc import load_model, scoring_server

    host, _, port = listen.rpartition(":")
    authority = os.environ.get("FLOPS_TLS_CA")
    uvicorn.run(
        scoring_server.init(load_model(str(MODEL))),
        host=host.strip("[]"),
        port=int(port),
        ssl_certfile=os.environ.get("FLOPS_TLS_CERT"),
        ssl_keyfile=os.environ.get("FLOPS_TLS_KEY"),
        ssl_ca_certs=authority,
        ssl_cert_reqs=ssl.CERT_REQUIRED if authority else ssl.CERT_NONE,
    )


def check(listen: str) -> None:
    """Exit with a reason if the server does not answer; with TLS, if it does not listen."""
    host, _, port = listen.rpartition(":")
    if host in ("0.0.0.0", "[::]"):
        host = "127.0.0.1"
    try:
        if os.environ.get("FLOPS_TLS_CERT"):  # it may want a certificate to answer
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        else:
            urllib.request.urlopen(f"http://{host}:{port}/ping", timeout=5).close()
    except OSError as error:
        sys.exit(f"the server does not answer: {error}")


if __name__ == "__main__":
    serve(os.environ["FLOPS_LISTEN"])
