"""Placements and experiments in memory: the newest state, and when it is known."""

import threading
from pathlib import Path
from typing import Any

import pytest

from services.serving.state.topic_states import AHEAD_MS, ExperimentBook, StateBook, StateFeed
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.records import Batch, Message
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.topics import PLACEMENTS
from tests.unit.broker.scripted import SOURCE, ScriptedConsumer
from tests.unit.slates.test_participation import experiment


def placement(name: str, revision: int = 1, *, deleted: bool = False, **policy: float) -> Placement:
    return Placement(
        name=name,
        revision=revision,
        policy=PlacementPolicy(**policy),
        deleted=deleted,
        changed_at=1,
    )


def test_the_newest_state_is_there_and_a_deleted_one_is_not() -> None:
    book = StateBook[Placement]()
    assert book.get("home") is None and book.revision == 0
    home, cart = placement("home"), placement("cart")
    book.take([home, cart, placement("gone", deleted=True)])
    assert (book.get("home"), book.get("cart"), book.get("gone")) == (home, cart, None)
    assert book.revision == 1
    varied = placement("home", 2, diversity=0.5)
    book.take([varied, placement("cart", 2, deleted=True)])
    assert (book.get("home"), book.get("cart"), book.revision) == (varied, None, 2)


def test_what_is_told_again_is_no_change() -> None:
    book = StateBook[Placement]()
    for _ in range(2):
        book.take([placement("home", diversity=0.5), placement("gone", deleted=True)])
    book.take([])
    assert book.revision == 1


def test_an_older_revision_that_comes_later_counts() -> None:
    """So it is where monitoring's database was lost, and numbers begin again."""
    book = StateBook[Placement]()
    book.take([placement("home", 7)])
    book.take([placement("home", 1, diversity=0.5)])
    found = book.get("home")
    assert found is not None and found.revision == 1


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


def name_of(book: ExperimentBook, placement: str, now_ms: int = 5) -> str | None:
    found = book.of(placement, now_ms)
    return found.name if found is not None else None


def test_the_book_follows_placements_times_and_states() -> None:
    book = ExperimentBook()
    assert name_of(book, "home") is None
    two: dict[str, Any] = {"placements": ["home", "cart"]}
    book.take([experiment("now", **two, ends_at=10), experiment("next", **two, starts_at=10)])
    assert [name_of(book, "home", at) for at in (5, 10)] == ["now", "next"]
    assert name_of(book, "cart") == "now" and name_of(book, "item") is None
    book.take([experiment("now", **two, state="stopped")])
    assert name_of(book, "home") is None
    book.take([experiment("next", **two).model_copy(update={"deleted": True})])
    assert name_of(book, "home", 10) is None and book.revision == 3


def test_models_are_wanted_from_a_minute_before_the_start_to_the_end() -> None:
    def of(*models: str) -> list[dict[str, str]]:
        return [{"name": f"v{n}", "model": model} for n, model in enumerate(models)]

    book = ExperimentBook()
    book.take(
        [
            experiment(
                "b", variants=of("", "canary"), starts_at=AHEAD_MS + 5, ends_at=2 * AHEAD_MS
            ),
            experiment("a", variants=of("7", "challenger", "canary")),
            experiment("c", variants=of("", "9"), state="stopped"),
        ]
    )
    assert book.models(0) == ["7", "challenger", "canary"]
    book.take([experiment("a", variants=of("", ""))])
    wanted = [book.models(at) for at in (0, 5, 2 * AHEAD_MS - 1, 2 * AHEAD_MS)]
    assert wanted == [[], ["canary"], ["canary"], []]
