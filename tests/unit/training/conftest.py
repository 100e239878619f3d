"""A lake, a registry and a database of the test's own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.training.migrations import MIGRATIONS
from services.training.registry import ModelRegistry
from services.training.repository import Repository
from slipstream.chassis.settings import ArtifactSettings, LakeSettings
from slipstream.stores.artifacts import Artifacts
from slipstream.stores.lake import Lake
from tests import migrated
from tests.unit.training.registries import add, mlflow_template
from tests.unit.training.run_queue import Scene

__all__ = ["add", "mlflow_template"]


@pytest.fixture
def lake(lake_settings: LakeSettings) -> Lake:
    return Lake(lake_settings, "test")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with training's tables."""
    made = migrated.database(tmp_path, MIGRATIONS)
    yield made
    made.dispose()


@pytest.fixture
def repository(engine: Engine) -> Repository:
    return Repository(engine)


@pytest.fixture
def registry(mlflow_template: Path, tmp_path: Path, artifacts: Artifacts) -> ModelRegistry:
    """A real MLflow, opened, with no version in it."""
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    opened = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", artifacts)
    opened.open()
    return opened


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(ArtifactSettings(directory=tmp_path / "models"))


@pytest.fixture
def scene(repository: Repository, artifacts: Artifacts) -> Iterator[Scene]:
    made = Scene(repository, artifacts)
    yield made
    made.end()
