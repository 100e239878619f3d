"""A process of serving that takes its models from the cache which another process fills."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.serving.state import model_holder
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.state.test_model_holder import a_holder, versions
from tests.unit.serving.state.training_stub import TrainingStub


def until(condition: Callable[[], bool]) -> None:
    for _ in range(6_000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to pass in time")


def test_a_follower_takes_what_the_leader_has_fetched_and_goes_back_with_it(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_holder, "_FOLLOW_S", 0.01)
    monkeypatch.setattr(model_holder, "_UNSETTLED_S", 0.01)
    training = TrainingStub(tmp_path / "training")
    leader, follower = (a_holder(training, tmp_path / "cache") for _ in range(2))
    stop = threading.Event()
    following = threading.Thread(target=follower.follow_cache, args=(stop,))
    following.start()
    try:
        # Training says that there is no champion: the follower is ready without one.
        until(lambda: follower._settled)
        training.publish(bundle, "1")
        leader.refresh()
        until(lambda: versions(follower) == ("1", None))
        training.publish(
            replace(bundle, manifest=bundle.manifest.model_copy(update={"version": "2"})), "2"
        )
        leader.refresh()
        until(lambda: versions(follower) == ("2", "1"))
        first = follower.previous
        training.champion = "1"
        training.downloads.clear()
        leader.refresh()
        until(lambda: versions(follower) == ("1", "2"))
        assert follower.current is first, "the model at hand is not loaded again"
        assert training.downloads == ["manifest.json"], "only the leader asks for files"
        training.deleted = {"2"}
        leader.refresh()
        until(lambda: versions(follower) == ("1", None))
        training.champion, training.deleted = None, {"1", "2"}
        leader.refresh()
        until(lambda: versions(follower) == (None, None))
    finally:
        stop.set()
        following.join(60)
