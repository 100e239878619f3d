"""MLflow, as it comes from the registry, loads the champion that training has registered."""

from pathlib import Path

import pytest

from services.training.experiments import Lineage
from services.training.registry import ModelRegistry
from slipstream.chassis.settings import ArtifactSettings
from slipstream.recommender.bundle import load_bundle, save_bundle
from slipstream.recommender.stages import recommend
from slipstream.stores.artifacts import Artifacts
from tests.integration.client_environments import needs_environment, run_client
from tests.unit.serving.fakes import small_bundle


@needs_environment("mlflow")
def test_the_champion_loads_and_predicts(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    bundle, uri = small_bundle(), f"sqlite:///{tmp_path / 'mlflow.db'}"
    manifest = save_bundle(bundle, tmp_path / "made")
    artifacts = Artifacts(ArtifactSettings(directory=tmp_path / "artifacts"))
    registry = ModelRegistry(uri, artifacts)
    registry.open()
    kept = artifacts.put(bundle.version, tmp_path / "made")
    registry.register(manifest, kept, Lineage("run", {}, {}, {}, "/lake", "ab" * 32))
    registry.promote(bundle.version)

    run_client("mlflow", request, uri, recommend(bundle, [])[0].item_id)
    assert load_bundle(kept).version == bundle.version, "the bundle can still be served"
