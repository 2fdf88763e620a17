"""The MLflow store: where it is, how it is opened, and what is wrong with it in one sentence."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from music_assets.foundation.errors import MusicAssetsError
from music_assets.paths import DataPaths

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOCKED_SECONDS = 20  # that another program's lock is waited for, as MLflow does


class TrackingUnreachable(MusicAssetsError):
    """The MLflow store does not answer, or cannot be used; the message names it and the way out."""


def tracking_uri(paths: DataPaths) -> str:
    """Address of the MLflow store: ``MLFLOW_TRACKING_URI``, or a SQLite file in the data folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _sqlite_uri(paths.mlflow / "mlflow.db")


def _sqlite_uri(file: Path) -> str:
    from sqlalchemy import URL

    plain = f"sqlite:///{file}"
    if URL.create("sqlite", database=str(file)).render_as_string() == plain:
        return plain
    # with the driver in it, for MLflow makes the folder of a ``sqlite:`` address as that is quoted
    return URL.create("sqlite+pysqlite", database=str(file)).render_as_string()


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Turn a server's silence, and what is wrong with a database, into one sentence."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, CommandError) as error:
        sentence = _server_trouble(uri, error) if uri.startswith("http") else _database_trouble(uri, error)
        if sentence is None:
            raise
        raise TrackingUnreachable(sentence) from None


def _server_trouble(uri: str, error: Exception) -> str | None:
    from requests.exceptions import RequestException

    if "API request to" in str(error) or any(isinstance(cause, RequestException) for cause in _causes(error)):
        return f"The MLflow server at {uri} does not answer: start it again, or name another by MLFLOW_TRACKING_URI."
    if getattr(error, "error_code", None) in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
        return (
            f"The MLflow server at {uri} fails ({_first_line(error)}): see what it says itself, or name another by "
            "MLFLOW_TRACKING_URI."
        )
    return None


def _database_trouble(uri: str, error: Exception) -> str | None:
    from alembic.util.exc import CommandError
    from sqlalchemy.exc import InterfaceError, OperationalError

    for cause in _causes(error):
        if type(cause) in (sqlite3.OperationalError, sqlite3.DatabaseError):
            return _sqlite_trouble(_shown(uri), str(cause))
        if isinstance(cause, CommandError) or "out-of-date database schema" in str(cause):
            return (
                f"MLflow's database {_shown(uri)} is of another version of MLflow: install that version or, if it is "
                f"an older one, copy the database and run `mlflow db upgrade '{_shown(uri, address=True)}'`; "
                "MLFLOW_TRACKING_URI names another database."
            )
    for cause in _causes(error):
        if isinstance(cause, OperationalError | InterfaceError):
            return (
                f"MLflow's database {_shown(uri)} does not answer ({_first_line(cause.orig or cause)}): start it "
                "again, or name another by MLFLOW_TRACKING_URI."
            )
    return None


def _sqlite_trouble(file: str, reason: str) -> str:
    if "locked" in reason:
        return f"MLflow's database {file} is locked, for another program writes to it: end that, and start again."
    if "full" in reason:
        return f"The disk that holds MLflow's database {file} is full: free some space and start again."
    return (
        f"MLflow's database {file} cannot be used ({reason}): see to it that you may write to it and that its disk is "
        "there, or move it away to begin a new history."
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].removesuffix(".")


def _shown(uri: str, address: bool = False) -> str:
    """A database's file, or its address without the password."""
    from sqlalchemy import make_url

    url = make_url(uri)
    has_file = url.get_backend_name() == "sqlite" and not address
    return str(url.database) if has_file else url.render_as_string()


def open_client(uri: str) -> "MlflowClient":
    """MLflow, kept from reporting usage, looking for git and logging its routine."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # By default a server that is gone is asked for minutes; training waits meanwhile.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.db_types import DATABASE_ENGINES

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    for logger in ("mlflow.store.db.utils", "mlflow.system_metrics"):  # what they say of a failure is SQL
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    kind = uri.partition(":")[0].partition("+")[0]
    if kind in DATABASE_ENGINES:
        _require_database(uri)
        return MlflowClient(uri)
    try:
        return MlflowClient(uri)
    except MlflowException as error:
        reason = _first_line(error).partition(". ")[0]
        raise TrackingUnreachable(
            f"MLFLOW_TRACKING_URI is {uri}, where MLflow does not keep runs ({reason}): name a server (http://...) or "
            "a database (sqlite:////...), or unset it."
        ) from None


def _require_database(uri: str) -> None:
    """Fail at once, where MLflow would ask a database that is out of reach for minutes."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(uri, connect_args={"timeout": _LOCKED_SECONDS} if uri.startswith("sqlite") else {})
    try:
        inspect(engine).get_table_names()
    finally:
        engine.dispose()
