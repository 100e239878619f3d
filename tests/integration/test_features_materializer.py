"""The loop on the real wire: redelivery, rebalance, a new topic id, Redis and the lake away,
catalogue, slates, bad records.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from services.features.settings import FeaturesSection, FeaturesSettings
from services.features.stream.materializer import GROUP, TOPICS, Materializer
from slipstream.broker.batch import Message
from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics, physical, topic_ids
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.chassis.worker import Worker
from slipstream.contracts.events import (
    CatalogRecord,
    DeadLetter,
    FeatureUpdate,
    Interaction,
    Slate,
    SlateItem,
)
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import (
    CATALOG,
    DEAD_LETTERS,
    FEATURE_UPDATES,
    INTERACTIONS,
    RECOMMENDATIONS,
    Topic,
)
from slipstream.stores import lake
from slipstream.stores.lake import Lake
from slipstream.stores.online import OnlineStore
from tests.conftest import OwnRedis, Renewal
from tests.integration.shop_stream import assert_exactly, events, send

OWN = FeaturesSection(lake_flush_s=0.2, durable_after_s=0.1, max_poll_records=200)


@pytest.fixture
def settings(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
) -> FeaturesSettings:
    return FeaturesSettings(
        kafka=broker, redis=redis_settings, lake=lake_settings, namespace=namespace, features=OWN
    )


class Running:
    """A materializer in a worker thread, with clients to look at what it did."""

    def __init__(self, settings: FeaturesSettings) -> None:
        ensure_topics(settings.kafka, settings.namespace)
        self.producer = Producer(settings.kafka, settings.namespace)
        self.store = OnlineStore(settings.redis, settings.namespace, settings.retention())
        self.lake = Lake(settings.lake, settings.namespace)
        self.metrics = Metrics("features")
        self.materializer = Materializer(
            settings, self.store, self.lake, self.producer, self.metrics
        )
        self.worker = Worker("materializer", self.materializer.run).start()

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until everything on the topics is applied and in the lake."""
        until(lambda: self.materializer.progress().caught_up, timeout_s)

    def lag(self, topic: Topic) -> float | None:
        """What the service exports."""
        return self.metrics.registry.get_sample_value(
            "slipstream_consumer_lag_records", {"topic": topic.name}
        )

    def stop(self) -> None:
        self.worker.stop(30)
        self.materializer.close()
        self.producer.close()


@contextmanager
def running(settings: FeaturesSettings) -> Iterator[Running]:
    run = Running(settings)
    try:
        yield run
    finally:
        run.stop()


def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def messages(settings: FeaturesSettings, topic: Topic, at_least: int) -> list[Message[Any]]:
    """What is on the topic, once there is so much."""
    consumer = Consumer(settings.kafka, settings.namespace, [topic], None)
    found: list[Message[Any]] = []
    deadline = time.monotonic() + 30
    try:
        while len(found) < at_least and time.monotonic() < deadline:
            found += consumer.poll(0.2).messages
    finally:
        consumer.close()
    return found


def test_whole_topic_read_again_changes_nothing(settings: FeaturesSettings) -> None:
    made = events(1_500)
    with running(settings) as first:
        send(first.producer, made)
        first.settle()
        assert_exactly(made, first.store, first.lake)
        version = first.lake.version(lake.INTERACTIONS)

    member = Consumer(settings.kafka, settings.namespace, TOPICS, GROUP)
    until(lambda: bool(member.poll(0.1)) or member.remaining() is not None)
    assert member.remaining() == 0, "the first run left its last offsets uncommitted"
    topic_id = topic_ids(settings.kafka, [physical(settings.namespace, INTERACTIONS)]).popitem()[1]
    assert member.commit(
        {Source(INTERACTIONS.name, topic_id, n): 0 for n in range(INTERACTIONS.partitions)}
    )
    member.close()

    with running(settings) as second:
        second.settle()
        assert second.materializer.progress().applied == len(made)
        assert_exactly(made, second.store, second.lake)
        assert second.lake.version(lake.INTERACTIONS) == version


def test_two_consumers_share_the_partitions_and_count_once(settings: FeaturesSettings) -> None:
    made = events(3_000)
    with running(settings) as first:
        send(first.producer, made[:1_000])
        until(lambda: first.materializer.progress().applied > 0)
        with running(settings) as second:
            # It has partitions then. Before that, the first would read what is meant for both.
            until(lambda: second.materializer.progress().caught_up)
            send(first.producer, made[1_000:2_000])
            until(lambda: second.materializer.progress().applied > 0)
            send(first.producer, made[2_000:])
            until(
                lambda: (
                    first.materializer.progress().caught_up
                    and second.materializer.progress().caught_up
                )
            )
            until(lambda: first.lake.count(lake.INTERACTIONS) == len(made))
        first.settle()
        assert_exactly(made, first.store, first.lake)


def test_events_that_come_after_a_renewal_between_two_runs_count_with_those_before(
    renewal: Renewal, redis_settings: RedisSettings, lake_settings: LakeSettings, namespace: str
) -> None:
    kafka, renew = renewal
    settings = FeaturesSettings(
        kafka=kafka, redis=redis_settings, lake=lake_settings, namespace=namespace, features=OWN
    )
    before, after = events(800), events(600, seed=8, first=800)
    with running(settings) as first:
        send(first.producer, before)
        first.settle()
    renew()
    with running(settings) as second:
        send(second.producer, after)
        second.settle()
        assert_exactly(before + after, second.store, second.lake)


def test_redis_away_delays_but_loses_nothing(
    broker: KafkaSettings, own_redis: OwnRedis, lake_settings: LakeSettings, namespace: str
) -> None:
    redis, server = own_redis()
    settings = FeaturesSettings(
        kafka=broker, redis=redis, lake=lake_settings, namespace=namespace, features=OWN
    )
    made = events(2_000)
    with running(settings) as run:
        send(run.producer, made[:1_000])
        until(lambda: run.materializer.progress().applied > 0)
        server.kill()
        send(run.producer, made[1_000:])
        until(lambda: failure(run.materializer.check_redis) is not None)
        assert "Redis" in str(failure(run.materializer.check_redis))
        assert not run.materializer.progress(0.1).caught_up
        server.start()
        run.settle()
        assert failure(run.materializer.check_redis) is None
        assert_exactly(made, run.store, run.lake)


def test_lake_away_delays_the_commit_but_not_redis(
    settings: FeaturesSettings, tmp_path: Path
) -> None:
    made = events(500)
    blocked = tmp_path / "lake"
    blocked.write_text("a file where the folder should be")
    with running(settings) as run:
        send(run.producer, made)
        until(lambda: failure(run.materializer.check_lake) is not None)
        until(lambda: run.materializer.progress().applied == len(made))
        assert not run.materializer.progress().caught_up
        assert sum(
            sum(state.counts.values()) for n in range(150) if (state := run.store.visitor(f"u{n}"))
        ) == len(made)
        blocked.unlink()
        run.settle()
        assert failure(run.materializer.check_lake) is None
        assert_exactly(made, run.store, run.lake)


def test_lag_is_exported_while_reading_pauses_and_falls_to_none(
    settings: FeaturesSettings, tmp_path: Path
) -> None:
    own = OWN.model_copy(update={"lake_flush_rows": 50})  # 500 rows may wait for the lake
    settings = settings.model_copy(update={"features": own})
    made = events(3_000)
    ensure_topics(settings.kafka, settings.namespace)
    producer = Producer(settings.kafka, settings.namespace)
    send(producer, made)
    producer.close()
    blocked = tmp_path / "lake"
    blocked.write_text("a file where the folder should be")
    with running(settings) as run:
        until(lambda: run.materializer.progress().applied >= 500)
        # Not all that waits: of each partition's newest batch the embedded broker counts only the
        # first record.
        until(
            lambda: (
                1_000
                < (run.lag(INTERACTIONS) or 0)
                <= len(made) - run.materializer.progress().applied
            )
        )
        blocked.unlink()
        run.settle()
        until(lambda: [run.lag(topic) for topic in TOPICS] == [0, 0, 0])


def test_catalogue_and_slates_reach_their_stores(settings: FeaturesSettings) -> None:
    entries = [
        CatalogRecord(entity="item", entity_id="a", attributes={"title": "old"}, timestamp=1),
        CatalogRecord(
            entity="item",
            entity_id="b",
            attributes={"title": "B", "big": 2**70},
            available=False,
            timestamp=1,
        ),
        CatalogRecord(entity="item", entity_id="c", timestamp=1),
        CatalogRecord(entity="item", entity_id="a", attributes={"title": "A"}, timestamp=3),
        CatalogRecord(entity="item", entity_id="a", attributes={"title": "late"}, timestamp=2),
        CatalogRecord(entity="item", entity_id="c", deleted=True, timestamp=2),
        CatalogRecord(entity="user", entity_id="u", attributes={"plan": "pro"}, timestamp=2),
    ]
    slate = Slate(
        recommendation_id="r1",
        user_id="u",
        timestamp=1_790_000_000_000,
        items=[SlateItem(item_id="a", score=0.5, source="rules")],
        answered_by="model",
        features={"views": 2.0},
    )
    with running(settings) as run:
        for entry in entries:
            run.producer.send(CATALOG, f"{entry.entity}:{entry.entity_id}", entry)
        run.producer.send(RECOMMENDATIONS, slate.user_id, slate)
        run.producer.flush()
        until(lambda: run.materializer.progress().applied == len(entries) + 1)
        run.settle()
        kept = {
            record.entity_id: record.attributes["title"]
            for record in run.store.catalog_items()
            if not record.deleted
        }
        assert kept == {"a": "A", "b": "B"}
        assert run.lake.count(lake.CATALOG) == len(entries)
        row = run.lake.read(lake.RECOMMENDATIONS).to_pylist()[0]
        assert (row["recommendation_id"], row["items"][0]["item_id"], row["features"]) == (
            "r1",
            "a",
            '{"views":2.0}',
        )
        assert row["received_date"] == "2026-09-21"


def test_bad_records_become_dead_letters_and_block_nothing(settings: FeaturesSettings) -> None:
    good = events(20)
    ahead = good[0].model_copy(
        update={"event_id": "ahead", "timestamp": good[0].received_at + 90_000_000}
    )
    with running(settings) as run:
        raw = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers.split(","))
        for value in (b"{not json", b'{"event_id":"x"}', b"\xff\xfe"):
            raw.send(physical(settings.namespace, INTERACTIONS), value, good[0].user_id.encode())
        raw.flush()
        raw.close()
        run.producer.send(INTERACTIONS, ahead.user_id, ahead, "r-ahead")
        send(run.producer, good)
        until(lambda: run.materializer.progress().applied == len(good))
        run.settle()
        assert_exactly(good, run.store, run.lake)
        told = messages(settings, DEAD_LETTERS, 4)
        letters: list[DeadLetter] = [message.record for message in told]
        assert sorted(message.request_id for message in told) == ["", "", "", "r-ahead"]
        assert sorted(letter.code for letter in letters) == ["malformed_record"] * 3 + [
            "timestamp_ahead"
        ]
        assert (
            Interaction.model_validate_json(
                next(x.original for x in letters if x.code == "timestamp_ahead")
            )
            == ahead
        )
        updates: list[FeatureUpdate] = [
            message.record for message in messages(settings, FEATURE_UPDATES, 1)
        ]
        assert updates[0].view == "visitor" and updates[0].features["history_length"] >= 0


def failure(check: Callable[[], Any]) -> Exception | None:
    """What a readiness check raises."""
    outcome: list[Exception] = []

    def run() -> None:
        try:
            check().send(None)
        except StopIteration:
            pass
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(5)
    return outcome[0] if outcome else None


def test_renewal_under_a_running_consumer_loses_nothing(
    renewal: Renewal, redis_settings: RedisSettings, lake_settings: LakeSettings, namespace: str
) -> None:
    kafka, renew = renewal
    settings = FeaturesSettings(
        kafka=kafka, redis=redis_settings, lake=lake_settings, namespace=namespace, features=OWN
    )
    before, after = events(300), events(900, seed=8, first=300)
    with running(settings) as run:
        send(run.producer, before)
        run.settle()
        renew()
        other = Producer(kafka, namespace)
        send(other, after)  # more than before: the old positions lie within a new topic
        other.close()
        until(lambda: run.lake.count(lake.INTERACTIONS) == len(before) + len(after))
        run.settle()
        assert_exactly(before + after, run.store, run.lake)


def test_redis_that_lost_its_last_writes_gets_them_again(
    broker: KafkaSettings,
    own_redis: OwnRedis,
    lake_settings: LakeSettings,
    namespace: str,
    tmp_path: Path,
) -> None:
    redis, server = own_redis()
    slow = OWN.model_copy(update={"durable_after_s": 3.0})
    settings = FeaturesSettings(
        kafka=broker, redis=redis, lake=lake_settings, namespace=namespace, features=slow
    )
    made = events(900)
    data = next(tmp_path.glob("redis-*"))
    with running(settings) as run:
        send(run.producer, made[:400])
        run.settle()
        shutil.copytree(data, tmp_path / "earlier")
        send(run.producer, made[400:])
        run.settle()
        server.kill()
        shutil.rmtree(data)
        shutil.move(tmp_path / "earlier", data)
        server.start()
        assert (
            sum(
                sum(state.counts.values())
                for n in range(150)
                if (state := run.store.visitor(f"u{n}"))
            )
            == 400
        )
        until(
            lambda: (
                sum(
                    sum(state.counts.values())
                    for n in range(150)
                    if (state := run.store.visitor(f"u{n}"))
                )
                == len(made)
            )
        )
        run.settle()
        assert_exactly(made, run.store, run.lake)
