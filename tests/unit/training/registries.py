"""MLflow's tables take seconds to create: they are created once for many tests, which work on
copies.
"""

from pathlib import Path

import pytest

from services.training.registry import ModelRegistry
from slipstream.chassis.settings import ArtifactSettings
from slipstream.stores.artifacts import Artifacts


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables, our experiment and our model, and no version of it; copy
    it, never open it.
    """
    folder = tmp_path_factory.mktemp("mlflow")
    registry = ModelRegistry(
        f"sqlite:///{folder / 'mlflow.db'}", Artifacts(ArtifactSettings(directory=folder))
    )
    registry.open()
    return folder / "mlflow.db"
