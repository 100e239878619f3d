"""An erased user's id, looked for in every byte that Redis and the lake's folder hold."""

import random
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from services.features.history.receipts import Receipts
from services.features.settings import FeaturesSettings
from services.features.stream.materializer import TOPICS
from slipstream.broker.log_ends import log_beginnings, log_ends
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.contracts.events import CatalogRecord, Interaction, Slate
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import INTERACTIONS, PEOPLE, PERSONAL, RECOMMENDATIONS
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores import lake
from slipstream.stores.lake import SCHEMAS
from tests.integration.byte_search import files_with, keys_with
from tests.integration.running_materializer import running
from tests.waiting import until

# Ids that nothing else has a byte of.
USER, DEVICE, STRANGER = "erased-7f3a9c51", "device-7f3a9c51", "stranger-0b1d"
PLANTED = (USER, DEVICE)


def event(name: str, number: int, clock_off_ms: int) -> OutgoingRecord:
    now = now_ms()
    record = Interaction(
        event_id=f"{name}-{number}",
        event_type="view",
        user_id=name,
        anonymous_id=name,
        item_id=f"i{number % 5}",
        timestamp=now + clock_off_ms,
        received_at=now,
        properties={"by": name},
    )
    return OutgoingRecord(INTERACTIONS, name, record)


def slate(name: str, number: int) -> OutgoingRecord:
    record = Slate(
        recommendation_id=f"{name}-r{number}",
        user_id=name,
        timestamp=now_ms(),
        items=[],
        answered_by="model",
    )
    return OutgoingRecord(RECOMMENDATIONS, name, record)


def person(entity: str, name: str, off_ms: int, **attributes: str) -> OutgoingRecord:
    record = CatalogRecord(
        entity=entity,  # type: ignore[arg-type]
        entity_id=name,
        attributes=attributes,
        timestamp=now_ms() + off_ms,
    )
    return OutgoingRecord(PEOPLE, f"{entity}:{name}", record)


class Writer(threading.Thread):
    """A client with a clock of its own, that sends events of one visitor until it is stopped."""

    def __init__(self, producer: Producer, name: str, clock_off_ms: int) -> None:
        super().__init__()
        self._producer, self._name_of_visitor, self._off = producer, name, clock_off_ms
        self.sent, self.halt = 0, threading.Event()

    def run(self) -> None:
        while not self.halt.wait(0.002):
            topic, key, record, _ = event(self._name_of_visitor, self.sent, self._off)
            assert isinstance(record, Interaction)
            self._producer.send(topic, key, record)
            self.sent += 1


def erase(settings: FeaturesSettings, producer: Producer) -> None:
    """Ask for the user's erasure, by the clock of a replica that is an hour slow."""
    gone = CatalogRecord(
        entity="user",
        entity_id=USER,
        deleted=True,
        timestamp=now_ms() - 3_600_000,
        erasure_id="e1",
        cut=log_ends(settings.kafka, settings.namespace, TOPICS),
    )
    producer.send(PEOPLE, "erasure:e1", gone)
    producer.flush(30)


def places_with(ids: tuple[str, ...], settings: FeaturesSettings) -> Iterator[str]:
    """Where one of these ids stands: keys and values of Redis, and files of the lake's folder."""
    yield from keys_with(ids, settings.redis, settings.namespace)
    yield from files_with(ids, Path(settings.lake.uri))


@pytest.mark.servers("real")  # it takes ten seconds
def test_no_byte_of_an_erased_user_is_left_beside_concurrent_writers_with_wrong_clocks(
    settings: FeaturesSettings,
) -> None:
    chance = random.Random(5)
    with running(settings) as run:
        writers = [
            Writer(run.producer, name, chance.randrange(-3_000_000, 3_000_000))
            for name in (USER, DEVICE, STRANGER)
        ]
        for outgoing in (
            slate(USER, 1),
            slate(DEVICE, 2),
            person("user", USER, 40_000_000, mail=USER),
            person("identity", DEVICE, -40_000_000, **{MERGED_INTO: USER}),
        ):
            assert outgoing.record is not None and not isinstance(outgoing.record, bytes)
            run.producer.send(outgoing.topic, outgoing.key, outgoing.record)
        for writer in writers:
            writer.start()
        until(lambda: all(writer.sent > 100 for writer in writers))
        for writer in writers[:2]:
            writer.halt.set()
            writer.join()
        run.producer.flush(30)
        erase(settings, run.producer)
        beginnings = partial(log_beginnings, settings.kafka, settings.namespace, PERSONAL)
        receipts = Receipts(run.lake, beginnings, lambda: None)
        until(lambda: receipts.find("e1", now_ms()) is not None)
        asked = receipts.find("e1", now_ms())
        assert asked is not None and asked.erased_at is None and not asked.topics_left
        run.erase(1)
        writers[2].halt.set()
        writers[2].join()
        run.producer.flush(30)
        run.settle()
        done = receipts.find("e1", now_ms())
        assert done is not None and done.erased_at is not None and done.files_left
        assert done.rows == {
            lake.INTERACTIONS: writers[0].sent + writers[1].sent,
            lake.RECOMMENDATIONS: 2,
        }
        assert done.topics_left == [
            "erased-visitors.v1",
            "feature-updates.v1",
            "interactions.v1",
            "people.v1",
            "recommendations.v1",
        ]
        for table in SCHEMAS:
            run.lake.vacuum(table, 0)
        vacuumed = receipts.find("e1", now_ms())
        assert vacuumed is not None and vacuumed.files_left == 0
        assert receipts.find("e2", now_ms()) is None
        assert run.store.visitor(USER) is run.store.visitor(DEVICE) is None
        kept = run.lake.read(lake.INTERACTIONS, columns=["user_id"])["user_id"].to_pylist()
        assert kept == [STRANGER] * writers[2].sent, "the stranger's events are all there"
        stranger = run.store.visitor(STRANGER)
        assert stranger is not None and stranger.counts == {"view": writers[2].sent}
        found = " ".join(places_with((STRANGER,), settings))
        assert "redis" in found and ".parquet" in found, "the search finds what is there"
        assert [*places_with(PLANTED, settings)] == []
