"""MLflow's tables take seconds to create: they are created once for many tests, which work on
copies.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.training.experiments import Lineage
from services.training.registry import ModelRegistry
from slipstream.chassis.settings import ArtifactSettings
from slipstream.contracts.bundle import DataSummary, FileEntry, Manifest
from slipstream.contracts.rest import ModelVersion
from slipstream.stores.artifacts import Artifacts

Add = Callable[[str], ModelVersion]


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


@pytest.fixture
def add(registry: ModelRegistry, artifacts: Artifacts, tmp_path: Path) -> Add:
    """Registers a version with a bundle of its own."""

    def register(version: str) -> ModelVersion:
        source = tmp_path / f"new-{version}"
        source.mkdir()
        manifest = Manifest(
            version=version,
            created_at=1_700_000_000_000,
            profile="fast",
            lake_version=3,
            metrics={"ndcg@10": 0.25},
            data=DataSummary(visitors=2, items=3, events=4),
            files={"a.npy": FileEntry(sha256="0" * 64, bytes=1)},
        )
        (source / "manifest.json").write_text(manifest.model_dump_json(by_alias=True))
        (source / "a.npy").write_bytes(b"x")
        lineage = Lineage(
            version,
            {"ndcg@10": 0.25},
            {"ease": {"regularisation": 10}},
            {"lake_version": "3"},
            "/lake",
            "ab" * 32,
        )
        return registry.register(manifest, artifacts.put(version, source), lineage)

    return register


def version_of(model: ModelVersion | None) -> str | None:
    return model.version if model else None
