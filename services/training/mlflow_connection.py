"""Connection to MLflow: its import, its tables, and its client.

MLflow takes seconds to import, and as long to create its tables: `open` does both, once, in a
thread of its own.
"""

import importlib
import logging
import os
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.metadata import reach, with_connect_timeout

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Name of the registered model, and of the experiment of its runs.
MODEL: Final = "recommender"

# Gets an engine, and lets it write only while this process may.
Guard = Callable[[Engine], None]
# MLflow's code for an operational error of its database.
_AWAY: Final = "TEMPORARILY_UNAVAILABLE"


class RegistryUnavailableError(DependencyUnavailableError):
    """The registry is still starting, or its database does not answer."""

    dependency = "registry"


def unguarded(_engine: Engine) -> None:
    """Let an engine write whenever it likes."""


class MlflowConnection:
    """MLflow's client once it is open. Safe to use from several threads.

    Args:
        uri: SQLAlchemy URL of MLflow's database.
        files: Directory of the files that MLflow keeps for its runs.
        patience_s: Seconds that `client` waits for `open`.
        guard: Gets each engine of MLflow before it writes.
    """

    def __init__(
        self,
        uri: str,
        files: Path,
        patience_s: float,
        guard: Guard = unguarded,
    ) -> None:
        self.uri = uri
        # Id of the experiment, known once it is open.
        self.experiment = ""
        self.files, self._patience_s, self._guard = files, patience_s, guard
        self._client: MlflowClient | None = None
        self._opened = threading.Event()

    def open(self) -> None:
        """Import MLflow, create or migrate its tables, and make sure of experiment and model.

        Takes seconds. Raises `DatabaseUnavailableError` where its database does not answer: MLflow
        itself would say so late, and at length.
        """
        reach(self.uri)
        load_mlflow()
        from mlflow import MlflowClient

        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        unchecked = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        for engine in _engines(unchecked):
            self._guard(engine)
        client = cast("MlflowClient", _CheckedClient(unchecked))
        experiment = client.get_experiment_by_name(MODEL)
        self.experiment = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(MODEL, artifact_location=self.files.as_uri())
        )
        if not client.search_registered_models(f"name = '{MODEL}'"):
            client.create_registered_model(
                MODEL, description="Slipstream's recommender; a version's source is its bundle"
            )
        self._client = client
        self._opened.set()

    def check(self) -> None:
        """Raises RegistryUnavailableError unless MLflow and its database answer, at once."""
        if not self._opened.is_set():
            raise RegistryUnavailableError("the model registry is starting")
        self.client().get_registered_model(MODEL)

    def wait_opened(self, timeout_s: float) -> bool:
        """Whether it is open, within the time."""
        return self._opened.wait(timeout_s)

    def client(self) -> "MlflowClient":
        """The client. Raises RegistryUnavailableError when it is still not open after a while."""
        if not self._opened.wait(self._patience_s) or self._client is None:
            raise RegistryUnavailableError("the model registry is starting")
        return self._client


class _CheckedClient:
    """MLflow's client. Its calls raise RegistryUnavailableError when its database is down."""

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        @wraps(call)
        def checked(*arguments: Any, **named: Any) -> Any:
            from mlflow.exceptions import MlflowException

            try:
                return call(*arguments, **named)
            except MlflowException as error:
                if isinstance(error.__cause__, DependencyUnavailableError):  # of the guard
                    raise error.__cause__ from error
                if error.error_code != _AWAY:
                    raise
                raise RegistryUnavailableError(
                    "the model registry's database does not answer"
                ) from error

        return checked


def load_mlflow() -> None:
    """Import MLflow, without its telemetry and its log of everything. Takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    importlib.import_module("mlflow")


def _engines(client: "MlflowClient") -> set[Engine]:
    """MLflow's engines: of runs and of the registry. MLflow has no public way to them."""
    registry: Any = client._get_registry_client  # noqa: SLF001
    return {client._tracking_client.store.engine, registry().store.engine}  # noqa: SLF001


def tracking_uri(configured: str, database: DatabaseSettings) -> str:
    """The URL of MLflow's database.

    As configured; else a file next to the SQLite metadata, or the same PostgreSQL database.
    """
    if configured:
        return configured
    url = make_url(database.url.get_secret_value())
    if url.get_backend_name() != "sqlite":
        return with_connect_timeout(url).render_as_string(hide_password=False)
    folder = Path(url.database or "metadata.db").absolute().parent
    return f"sqlite:///{folder / 'mlflow.db'}"
