"""MLflow's store in an SQLite file: how its database is made, and where its artifacts lie."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from flops_fl.process.files import create

_SCHEME = "sqlite:///"


def local_store(folder: Path) -> tuple[str, Path]:
    """Tracking URI and artifact folder of the local store in a run's folder."""
    uri = f"{_SCHEME}{folder.resolve() / 'mlflow.db'}"
    return uri, folder / "mlartifacts"


def artifacts_of(uri: str) -> Path | None:
    """The artifact folder of a local store: beside its database. None for any other store.

    MLflow's own would be ``mlruns`` in the working folder, where nobody finds it again.
    """
    path = uri.removeprefix(_SCHEME)
    local = path not in (uri, "", ":memory:") and "?" not in path
    return Path(path).parent / "mlartifacts" if local else None


def make_store(uri: str, aside: Path) -> None:
    """Create the database in the folder `aside`, then move it, unless it is there.

    MLflow can neither use nor repair a database whose creation was cut off.
    """
    path = Path(uri.removeprefix(_SCHEME))
    if path.exists():
        return
    from mlflow import MlflowClient

    made = aside / path.name
    MlflowClient(tracking_uri=f"{_SCHEME}{made}").search_experiments(max_results=1)
    with closing(sqlite3.connect(made)) as database:
        # The mode is stored in the file. A commit then waits for the disk once, not three times.
        database.execute("PRAGMA journal_mode=WAL")
    path.parent.mkdir(parents=True, exist_ok=True)  # as MLflow does
    with suppress(FileExistsError):  # another process has made it meanwhile, and may use it
        create(path, made.read_bytes(), made.stat().st_mode & 0o777)
