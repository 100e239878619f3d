"""Models of replays: those in service are taken as they are, and one more is fetched and let go."""

from pathlib import Path

import pytest

from services.serving.replay.past import PastModels
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import ConflictError
from slipstream.slates.catalogue.model import Model
from tests.unit.serving.fakes import model, small_bundle
from tests.unit.serving.state.training_stub import TrainingStub


@pytest.fixture
def training(tmp_path: Path) -> TrainingStub:
    stub = TrainingStub(tmp_path / "training")
    for version in ("1", "2", "3"):
        stub.publish(small_bundle(version), version)
    return stub


def past_models(training: TrainingStub, folder: Path, *in_service: Model | None) -> PastModels:
    peer = Peer("training", "http://training", retries=0, transport=training.transport())
    return PastModels(peer, lambda: in_service, folder)


def test_models_in_service_are_not_fetched_and_another_one_is_once(
    training: TrainingStub, tmp_path: Path
) -> None:
    current = model(small_bundle("3"), "3")
    models = past_models(training, tmp_path / "replay", current, None)
    assert models.of("3") is current
    assert not training.downloads
    first = models.of("1")
    assert first.bundle.manifest.version == "1"
    downloads = len(training.downloads)
    assert models.of("1") is first
    assert len(training.downloads) == downloads
    # One at a time: the next one takes its place, on the disk, too.
    assert models.of("2").bundle.manifest.version == "2"
    assert models.of("1") is not first
    models.release()
    assert not (tmp_path / "replay").exists()


def test_a_version_without_files_and_a_training_that_is_away_are_told_apart(
    training: TrainingStub, tmp_path: Path
) -> None:
    models = past_models(training, tmp_path / "replay")
    training.gone = {"2"}
    with pytest.raises(ConflictError, match="no files of model 2"):
        models.of("2")
    training.away = True
    with pytest.raises(PeerError):
        models.of("1")
    training.away = False
    assert models.of("1").version == "1"
