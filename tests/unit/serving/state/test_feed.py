"""When serving may say that it knows the placements."""

import threading
from pathlib import Path
from typing import Any

import pytest

from services.serving.state.topic_states import StateBook, StateFeed
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.records import Batch, Message
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.placements import Placement
from slipstream.contracts.topics import PLACEMENTS
from tests.unit.broker.scripted import SOURCE, ScriptedConsumer

HOME = Placement(name="home", revision=3, changed_at=1)


class Scene:
    """A feed and its book; `consumer` is None while the broker is away."""

    def __init__(self, path: Path, consumer: ScriptedConsumer | None) -> None:
        self.book, self.consumer = StateBook[Placement](), consumer
        self.feed = StateFeed(
            PLACEMENTS, self.book, self._connect, Metrics("serving"), path / "placements.jsonl"
        )

    def _connect(self) -> Any:
        if self.consumer is None:
            raise BrokerUnavailableError("away")
        return self.consumer

    def run(self) -> None:
        if self.consumer is None:
            with pytest.raises(BrokerUnavailableError):
                self.feed.run(threading.Event())
        else:
            self.feed.run(self.consumer.stop)


def topic(end: int = 0) -> ScriptedConsumer:
    """A consumer that is given one record, and stands behind it where the topic ends there."""
    consumer = ScriptedConsumer(Batch([Message(SOURCE, 0, HOME.name, HOME, "")]))
    consumer.end = end
    return consumer


async def test_not_ready_before_the_topic_was_read_to_its_end(tmp_path: Path) -> None:
    scene = Scene(tmp_path, topic(end=2))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the placements are still being read"):
            await scene.feed.check()
        scene.run()
    assert scene.book.get("home") is None
    scene.consumer = topic()
    scene.run()
    await scene.feed.check()
    assert scene.book.get("home") == HOME


async def test_without_the_broker_the_placements_are_as_they_were_last_on_this_disk(
    tmp_path: Path,
) -> None:
    new = Scene(tmp_path, None)
    new.run()
    with pytest.raises(RuntimeError, match="this disk has no placements"):
        await new.feed.check()
    Scene(tmp_path, topic()).run()
    started = Scene(tmp_path, None)
    with pytest.raises(RuntimeError, match="still being read"):
        await started.feed.check()
    started.run()
    await started.feed.check()
    assert started.book.get("home") == HOME
    started.consumer = topic()
    started.run()
    assert started.book.revision == 1
