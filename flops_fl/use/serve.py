"""`flops-fl serve`: a model over HTTP, by MLflow's scoring protocol (``/ping``, ``/invocations``).

MLflow's own server answers the requests. Its command `mlflow models serve` wants the whole of
MLflow, a model that was logged and an environment of its own; this one wants a run's folder.
"""

from __future__ import annotations

import importlib.util
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flops_fl.errors import UsageError
from flops_fl.extras import install
from flops_fl.net.address import Address
from flops_fl.net.listening import bound
from flops_fl.net.tls import Tls
from flops_fl.observers.scoring import as_served, logged, scoring_app
from flops_fl.options.use import ServeOptions
from flops_fl.process.signals import raise_on_signals
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.dependencies import code_paths
from flops_fl.use.model import read_run

log = logging.getLogger(__name__)


def serve(
    options: ServeOptions,
    *,
    option: str = "--listen",
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve a model until a signal comes.

    Args:
        option: The one that has said where to listen, for messages.
        ready: Called with the server's URL when the model is loaded, and clients can connect.

    Raises:
        UsageError: there is no such model, MLflow cannot serve it, or the address is in use.
        RepositoryError: the repository's code fails.
    """
    raise_on_signals()
    require_mlflow()
    log.info("loading %s into MLflow's server", options.model)
    # A certificate that cannot be used is named now, and not by uvicorn.
    Tls.read(options.tls_cert, options.tls_key, options.tls_ca)
    with (
        bound(options.listen, option) as listening,
        temporary_folder("flops-fl-serve-") as folder,
    ):
        if options.in_mlflow:
            model = logged(options.model, options.tracking_uri)
        else:
            model = _of_run(options, folder / "model")

        import uvicorn

        config = uvicorn.Config(
            scoring_app(model),
            log_config=None,
            access_log=False,
            ssl_certfile=options.tls_cert,
            ssl_keyfile=options.tls_key,
            ssl_ca_certs=options.tls_ca and str(options.tls_ca),
            ssl_cert_reqs=ssl.CERT_REQUIRED if options.tls_ca else ssl.CERT_NONE,
        )
        scheme = "https" if options.tls_cert else "http"
        url = f"{scheme}://{Address(*listening.getsockname()[:2])}"
        log.info("serving %s on %s: POST /invocations, GET /ping", options.model, url)
        ready(url)
        uvicorn.Server(config).run(sockets=[listening])


def require_mlflow() -> None:
    """Check that there is a server.

    Raises:
        UsageError: there is none.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise UsageError(f"MLflow is not installed: {install('aggregator')}")


def _of_run(options: ServeOptions, folder: Path) -> Any:
    found = read_run(Path(options.model), best=not options.last)
    log.info("it is %s", found)
    with (
        found.repository(options.repo) as repo,
        found.importable(repo.path) as user,  # MLflow may import the user's modules
    ):
        return as_served(user.model(), folder, code_paths(repo.path), user.input_example())
