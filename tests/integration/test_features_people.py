"""Links, erasures, repeats and late events, from the topics to Redis and the lake."""

import random
import time

import pytest

from services.features.settings import FeaturesSettings
from services.features.stream.materializer import GROUP, TOPICS
from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import Producer
from slipstream.broker.topics import physical, topic_ids
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import Source
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.topics import CATALOG, DEAD_LETTERS, INTERACTIONS
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores import lake
from tests.integration.shop_stream import assert_exactly, events, send
from tests.integration.test_features_materializer import OWN, Running, messages, running, until


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


def tell(producer: Producer, *records: CatalogRecord) -> None:
    for record in records:
        producer.send(CATALOG, f"{record.entity}:{record.entity_id}", record)
    producer.flush()


def link(visitor_id: str, user_id: str) -> CatalogRecord:
    now = time.time_ns() // 1_000_000
    return CatalogRecord(
        entity="identity", entity_id=visitor_id, attributes={MERGED_INTO: user_id}, timestamp=now
    )


def value(run: Running, name: str, **labels: str) -> float | None:
    return run.metrics.registry.get_sample_value(f"slipstream_features_{name}_total", labels)


def test_links_and_repeats_among_the_events_and_all_of_it_again(settings: FeaturesSettings) -> None:
    chance = random.Random(3)
    made = events(1_200)
    merged = {
        f"u{n}": f"u{n - 1}" for n in range(1, 150, 3)
    }  # every third visitor turns out to be the one before it
    copies = [one.model_copy(update={"maybe_repeat": True}) for one in chance.sample(made, 200)]
    first = made[0].model_copy(update={"event_id": "first", "maybe_repeat": True})
    with running(settings) as run:
        send(run.producer, made[:400])
        tell(run.producer, *(link(*pair) for pair in list(merged.items())[:30]))
        send(run.producer, made[400:] + copies + [first, first])
        tell(run.producer, *(link(*pair) for pair in merged.items()))
        run.settle()
        assert_exactly([*made, first], run.store, run.lake, merged)
        assert value(run, "repeats") == len(copies) + 1
        assert value(run, "links", outcome="merged") == len(merged)

    member = Consumer(settings.kafka, settings.namespace, TOPICS, GROUP)
    until(lambda: bool(member.poll(0.1)) or member.remaining() is not None)
    for topic in (INTERACTIONS, CATALOG):
        topic_id = topic_ids(settings.kafka, [physical(settings.namespace, topic)]).popitem()[1]
        assert member.commit({Source(topic.name, topic_id, n): 0 for n in range(topic.partitions)})
    member.close()
    with running(settings) as again:
        again.settle()
        assert_exactly([*made, first], again.store, again.lake, merged)


def test_a_user_is_erased_from_both_stores_and_begins_anew(settings: FeaturesSettings) -> None:
    made = events(400, visitors=6)
    with running(settings) as run:
        tell(
            run.producer,
            CatalogRecord(entity="user", entity_id="u1", attributes={"plan": "pro"}, timestamp=1),
        )
        send(run.producer, made)
        tell(run.producer, link("u0", "u1"))
        run.settle()
        tell(
            run.producer,
            CatalogRecord(
                entity="user", entity_id="u1", deleted=True, timestamp=time.time_ns() // 1_000_000
            ),
        )
        until(lambda: value(run, "erasures") == 1)
        run.settle()
        rows = run.lake.read(lake.INTERACTIONS, columns=["user_id"])["user_id"].to_pylist()
        assert set(rows) == {f"u{n}" for n in range(2, 6)}
        assert len(rows) == sum(event.user_id not in ("u0", "u1") for event in made)
        assert run.store.visitor("u0") == run.store.visitor("u1")
        assert run.store.visitor("u1").counts == {}
        later = [
            one.model_copy(update={"received_at": time.time_ns() // 1_000_000 + 60_000})
            for one in events(9, visitors=1, first=500)
        ]
        send(run.producer, later)
        run.settle()
        assert sum(run.store.visitor("u1").counts.values()) == 9
        assert run.lake.count(lake.INTERACTIONS) == len(rows) + 9


def test_late_events_become_letters_and_imported_ones_do_not(settings: FeaturesSettings) -> None:
    good = events(5)
    late = [
        one.model_copy(
            update={"event_id": f"late-{n}", "timestamp": one.received_at - 30 * HOUR_MS}
        )
        for n, one in enumerate(good)
    ]
    history = [
        one.model_copy(update={"event_id": f"old-{n}", "imported": True})
        for n, one in enumerate(late)
    ]
    with running(settings) as run:
        send(run.producer, good + late + history)
        until(lambda: value(run, "rejected", code="timestamp_late") == len(late))
        run.settle()
        assert_exactly(good + history, run.store, run.lake)
        letters = [message.record for message in messages(settings, DEAD_LETTERS, len(late))]
        assert [letter.code for letter in letters] == ["timestamp_late"] * len(late)
