"""A service without a model is not ready while there may be a champion."""

import threading
from pathlib import Path

import pytest

from services.serving.state import model_holder
from services.serving.state.model_holder import ModelHolder
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.state.test_model_holder import a_holder, training
from tests.unit.serving.state.training_stub import TrainingStub

__all__ = ["training"]


async def is_ready(holder: ModelHolder) -> bool:
    try:
        await holder.check()
    except RuntimeError:
        return False
    return True


async def test_ready_once_the_champion_is_in_service(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    training.publish(bundle, "1")
    holder = a_holder(training, tmp_path / "cache")
    assert not await is_ready(holder)
    holder.refresh()
    assert await is_ready(holder)


async def test_ready_where_training_says_that_there_is_no_champion(
    training: TrainingStub, tmp_path: Path
) -> None:
    holder = a_holder(training, tmp_path / "cache")
    holder.refresh()
    assert await is_ready(holder)
    assert holder.problem == "training has no champion yet"


async def test_ready_with_the_bundle_of_the_cache_while_training_is_away(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    training.publish(bundle, "1")
    a_holder(training, tmp_path / "cache").refresh()
    training.away = True
    restarted = a_holder(training, tmp_path / "cache")
    restarted.restore()
    assert await is_ready(restarted)


async def test_not_ready_without_a_bundle_while_training_is_away_unless_settings_say_so(
    training: TrainingStub, tmp_path: Path
) -> None:
    training.away = True
    holder = a_holder(training, tmp_path / "cache")
    holder.refresh()
    with pytest.raises(RuntimeError, match="can't be reached"):
        await holder.check()
    assert await is_ready(a_holder(training, tmp_path / "cache", required=False))


async def test_not_ready_with_a_champion_that_can_not_be_loaded(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    training.publish(bundle, "1")
    training.spoiled = "recommender.json"
    holder = a_holder(training, tmp_path / "cache")
    holder.refresh()
    with pytest.raises(RuntimeError, match=r"recommender\.json"):
        await holder.check()


async def test_ready_service_stays_ready_when_training_goes_away(
    training: TrainingStub, tmp_path: Path
) -> None:
    holder = a_holder(training, tmp_path / "cache")
    holder.refresh()
    training.away = True
    holder.refresh()
    assert await is_ready(holder)


async def test_training_that_comes_late_is_asked_again_at_once_and_not_after_the_poll(
    training: TrainingStub, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_holder, "_UNSETTLED_S", 0.0)
    training.publish(bundle, "1")
    training.away = True
    taken, stop = threading.Event(), threading.Event()
    holder = a_holder(training, tmp_path / "cache", warm_up=lambda _: taken.set())
    follower = threading.Thread(target=holder.follow_alias, args=(stop, 600))
    follower.start()
    try:
        while not holder.problem:
            assert not stop.wait(0.01)
        training.away = False
        assert taken.wait(60)
    finally:
        stop.set()
        follower.join(60)
