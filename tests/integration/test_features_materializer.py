"""The materializer on the wire: redelivery, rebalance, new topics, catalogue, bad records."""

import pytest
from kafka import KafkaProducer

from services.features.settings import FeaturesSettings
from services.features.stream.materializer import GROUP, TOPICS
from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import Producer
from slipstream.broker.records import Batch
from slipstream.broker.topics import ensure_topics, physical, topic_ids
from slipstream.chassis.settings import LakeSettings, RedisSettings
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
    DEAD_LETTERS,
    FEATURE_UPDATES,
    INTERACTIONS,
    RECOMMENDATIONS,
)
from slipstream.stores import lake
from tests.conftest import OwnBroker, Renewal
from tests.integration.running_materializer import (
    QUICK,
    events_online,
    members,
    messages,
    running,
    steady,
    until,
)
from tests.integration.shop_stream import assert_exactly, events, send, send_entries


@pytest.mark.servers("real")  # it takes ten seconds
def test_whole_topic_read_again_changes_nothing(
    settings: FeaturesSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy disk may take long to confirm the last offsets, which are not committed without.
    monkeypatch.setattr("services.features.stream.commits._LAST_WAIT_S", 20.0)
    monkeypatch.setattr("slipstream.stores.checkpoints.WAIT_S", 20.0)
    settings = steady(settings)
    made = events(1_500)
    with running(settings) as first:
        send(first.producer, made)
        first.settle()
        assert_exactly(made, first.store, first.lake)
        version = first.lake.version(lake.INTERACTIONS)

    member = Consumer(settings.kafka, settings.namespace, TOPICS, GROUP)
    polled: list[Batch] = []

    def seen() -> bool:
        polled.append(member.poll(0.1))
        return bool(polled[-1]) or member.remaining() == 0

    until(seen)
    assert not polled[-1], "the first run left its last offsets uncommitted"
    topic_id = topic_ids(settings.kafka, [physical(settings.namespace, INTERACTIONS)]).popitem()[1]
    start = {Source(INTERACTIONS.name, topic_id, n): 0 for n in range(INTERACTIONS.partitions)}
    until(lambda: member.commit(start))
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
        kafka=kafka, redis=redis_settings, lake=lake_settings, namespace=namespace, features=QUICK
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


def test_events_that_are_online_reach_the_lake_though_the_broker_loses_them(
    own_broker: OwnBroker,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
) -> None:
    """Apache Kafka keeps them over its restart: there they are read again."""
    kafka, server = own_broker()
    settings = FeaturesSettings(
        kafka=kafka,
        redis=redis_settings,
        lake=lake_settings,
        namespace=namespace,
        features=QUICK.model_copy(update={"lake_flush_s": 600.0}),
    )
    before, after = events(800), events(100, seed=8, first=800)
    with running(settings) as run:
        send(run.producer, before)
        until(lambda: events_online(run.store) == len(before))
        server.kill()
        server.start()
        ensure_topics(kafka, namespace)
        until(lambda: members(settings) == 1)
        producer = Producer(kafka, namespace)
        send(producer, after)
        producer.close()
        until(lambda: events_online(run.store) == len(before) + len(after))
    assert_exactly(before + after, run.store, run.lake)


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
        CatalogRecord(entity="item", entity_id="a", attributes={"title": "wrong"}, timestamp=3),
        CatalogRecord(entity="item", entity_id="a", attributes={"title": "A"}, timestamp=2),
        CatalogRecord(entity="item", entity_id="c", deleted=True, timestamp=2),
        CatalogRecord(entity="user", entity_id="u", attributes={"plan": "pro"}, timestamp=2),
    ]
    slate = Slate(
        recommendation_id="r1",
        experiment="calmer",
        variant="varied",
        substituted="failed",
        shadow_of="r0",
        user_id="u",
        timestamp=1_790_000_000_000,
        items=[SlateItem(item_id="a", score=0.5, source="rules")],
        answered_by="model",
        features={"views": 2.0},
    )
    with running(settings) as run:
        send_entries(run.producer, entries)
        run.producer.send(RECOMMENDATIONS, slate.user_id, slate)
        run.producer.flush()
        until(lambda: run.materializer.progress().applied >= len(entries) + 1)
        run.settle()
        kept = {
            record.entity_id: record.attributes["title"]
            for _, _, record in run.store.catalog_items()
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
        assert (row["received_date"], row["purpose"]) == ("2026-09-21", "shown")
        assert (row["experiment"], row["variant"]) == ("calmer", "varied")
        assert (row["substituted"], row["shadow_of"]) == ("failed", "r0")


def test_bad_records_become_dead_letters_and_block_nothing(settings: FeaturesSettings) -> None:
    settings = steady(settings)
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
        until(lambda: run.materializer.progress().applied >= len(good))
        run.settle()
        assert_exactly(good, run.store, run.lake)
        sent = messages(settings, DEAD_LETTERS, 4)
        letters: list[DeadLetter] = [message.record for message in sent]
        assert sorted(message.request_id for message in sent) == ["", "", "", "r-ahead"]
        assert sorted(letter.code for letter in letters) == ["malformed_record"] * 3 + [
            "timestamp_ahead"
        ]
        assert (
            Interaction.model_validate_json(
                next(letter.original for letter in letters if letter.code == "timestamp_ahead")
            )
            == ahead
        )
        updates: list[FeatureUpdate] = [
            message.record for message in messages(settings, FEATURE_UPDATES, 1)
        ]
        assert updates[0].view == "visitor" and updates[0].features["history_length"] >= 0


def test_renewal_under_a_running_consumer_loses_nothing(
    renewal: Renewal, redis_settings: RedisSettings, lake_settings: LakeSettings, namespace: str
) -> None:
    kafka, renew = renewal
    settings = FeaturesSettings(
        kafka=kafka, redis=redis_settings, lake=lake_settings, namespace=namespace, features=QUICK
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
