"""Models that training has deleted after an erasure leave memory and disk."""

from pathlib import Path

from slipstream.broker.records import Batch, Message
from slipstream.contracts.events import ModelEvent, ModelEventType
from slipstream.contracts.positions import Source
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.fakes import small_bundle
from tests.unit.serving.state.test_model_holder import a_holder, training, versions
from tests.unit.serving.state.training_stub import TrainingStub

__all__ = ["training"]


def bundles(cache: Path) -> int:
    return sum(path.is_dir() for path in cache.iterdir())


def test_a_deleted_model_leaves_memory_and_disk_once_its_successor_is_in_service(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    holder = a_holder(training, tmp_path / "cache")
    training.publish(bundle, "1")
    holder.refresh()
    training.publish(small_bundle("2"), "2")
    training.deleted = {"1"}
    assert holder.refresh()
    assert (versions(holder), bundles(tmp_path / "cache")) == (("2", None), 1)


def test_without_a_champion_only_a_deleted_model_is_let_go(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    holder = a_holder(training, tmp_path / "cache")
    training.publish(bundle, "1")
    holder.refresh()
    training.champion = None
    assert not holder.refresh()
    assert versions(holder) == ("1", None), "a registry that was lost takes no model"
    training.deleted = {"1"}
    assert not holder.refresh()
    assert (versions(holder), bundles(tmp_path / "cache")) == ((None, None), 0)
    assert not a_holder(training, tmp_path / "cache").restore()


def test_a_deletion_is_heard_at_once(training: TrainingStub, tmp_path: Path) -> None:
    moved: list[str] = []
    holder = a_holder(training, tmp_path / "cache", moved=moved.append)
    deleted = ModelEvent(event=ModelEventType.DELETED, version="7", timestamp=1)
    holder._on_events(
        Batch([Message(Source("model-events.v1", "t", 0), 0, "recommender", deleted, "")])
    )
    assert holder._wake.is_set() and moved == ["7"]
