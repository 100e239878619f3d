"""The training service in a thread of the test, and its runs over HTTP."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from services.training.app import create_app
from services.training.settings import TrainingSection, TrainingSettings
from slipstream.chassis.settings import (
    ArtifactSettings,
    DatabaseSettings,
    HttpSettings,
    KafkaSettings,
    LakeSettings,
)
from tests import waiting
from tests.waiting import until

Settings = Callable[..., TrainingSettings]


@pytest.fixture
def make_settings(
    broker: KafkaSettings,
    namespace: str,
    database_settings: DatabaseSettings,
    lake_settings: LakeSettings,
    mlflow_template: Path,
    tmp_path: Path,
) -> Settings:
    # Where the service keeps it: next to the metadata.
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")

    def make(**training: Any) -> TrainingSettings:
        return TrainingSettings(
            namespace=namespace,
            kafka=broker,
            database=database_settings,
            lake=lake_settings,
            artifacts=ArtifactSettings(directory=tmp_path / "models"),
            http=HttpSettings(),
            training=TrainingSection(**training),
        )

    return make


def running(settings: TrainingSettings) -> AbstractContextManager[httpx.Client]:
    """The service with these settings, as `served` has it."""
    return served(create_app(settings))


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """A service on a free port, until the block ends and it has stopped cleanly."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    with waiting.running(server):
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until(
                lambda: client.get("/health/ready").status_code == 200,
                "the service did not become ready",
            )
            yield client


def ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(client.get(f"/v1/runs/{run_id}").json())
        return found["state"] not in ("queued", "running")

    until(over, "the run did not end", 120)
    return found
