"""Topics that are made, compared, lost and recreated, and how consumers and their lag follow."""

import asyncio
import logging
import time
from contextlib import suppress

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from slipstream.broker import producer as producer_module
from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError, connection
from slipstream.broker.producer import OutgoingRecord, Producer, open_producer
from slipstream.broker.topics import ensure_topics, physical, topic_differences, topic_ids
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import ALERTS, CATALOG, INTERACTIONS, TOPICS
from tests.integration.reading import patient, told_standing
from tests.integration.records import outgoing, published
from tests.topics import recreate_topics


def items(numbers: range) -> list[OutgoingRecord]:
    return [
        OutgoingRecord(
            CATALOG, f"item:i{n}", CatalogRecord(entity="item", entity_id=f"i{n}", timestamp=n)
        )
        for n in numbers
    ]


def test_new_topics_have_a_leader_for_each_partition_when_they_count_as_made(
    broker: KafkaSettings, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    ensure_topics(broker, namespace)
    admin = KafkaAdminClient(**connection(broker))
    described = admin.describe_topics([physical(namespace, topic) for topic in TOPICS])
    admin.close()
    assert {entry["name"]: len(entry["partitions"]) for entry in described} == {
        physical(namespace, t): t.partitions for t in TOPICS
    }
    assert all(
        partition["leader_id"] >= 0 for entry in described for partition in entry["partitions"]
    )
    assert topic_differences(broker, namespace) == []
    errors = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    # Threads of clients that other tests dropped unclosed end with such a line at any time.
    assert [line for line in errors if "weakly-referenced object" not in line] == []


def test_topics_have_no_more_partitions_than_the_settings_allow(
    broker: KafkaSettings, namespace: str
) -> None:
    few = broker.model_copy(update={"max_partitions": 3})
    ensure_topics(few, namespace, [INTERACTIONS, ALERTS])
    consumer = Consumer(few, namespace, [INTERACTIONS, ALERTS], None)
    sources = sorted((source.topic, source.partition) for source in consumer.ends())
    consumer.close()
    assert sources == [(ALERTS.name, 0), *((INTERACTIONS.name, at) for at in range(3))]
    assert topic_differences(few, namespace, [INTERACTIONS, ALERTS]) == []
    assert len(topic_differences(broker, namespace, [INTERACTIONS, ALERTS])) == 1


async def test_a_topic_that_is_not_as_wanted_is_told_with_the_way_to_mend_it(
    broker: KafkaSettings, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = physical(namespace, ALERTS)
    admin = KafkaAdminClient(**connection(broker))
    admin.create_topics(
        [NewTopic(name, 2, 1, topic_configs={"cleanup.policy": "compact"})], wait_for_metadata=True
    )
    admin.close()
    ensure_topics(broker, namespace)
    partitions, *settings = topic_differences(broker, namespace)
    assert partitions == f"{name} has 2 partitions, and 1 are wanted"
    assert settings
    for difference in settings:
        assert f"--entity-name {name} --add-config" in difference

    told: list[str] = []
    monkeypatch.setattr(
        producer_module.log, "warning", lambda _event, difference: told.append(difference)
    )
    (await open_producer(broker, namespace)).close()
    assert told == [partitions, *settings]


def test_a_topics_cleanup_and_retention_are_compared(broker: KafkaSettings, namespace: str) -> None:
    admin = KafkaAdminClient(**connection(broker))
    wrong = {"cleanup.policy": "compact", "retention.ms": "1000"}
    admin.create_topics(
        [NewTopic(physical(namespace, ALERTS), 1, 1, topic_configs=wrong)], wait_for_metadata=True
    )
    admin.close()
    assert [
        difference.partition(" has ")[2].split(",")[0]
        for difference in topic_differences(broker, namespace, [ALERTS])
    ] == [
        "cleanup.policy=compact",
        "retention.ms=1000",
    ]


@pytest.mark.servers("real")
def test_a_session_timeout_that_the_broker_refuses_is_said_in_one_sentence(
    broker: KafkaSettings, namespace: str
) -> None:
    ensure_topics(broker, namespace, [INTERACTIONS])
    consumer = Consumer(
        broker.model_copy(update={"session_timeout_ms": 2_000}), namespace, [INTERACTIONS], "g"
    )
    with pytest.raises(
        RefusedSettingsError,
        match=r"refuses SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS=2000: .*6000 by default",
    ):
        for _ in range(300):
            consumer.poll(0.2)
    consumer.close()


# To a producer that knew the old topic, the embedded broker acknowledges records of the new one
# that is not there.
@pytest.mark.servers("real")
async def test_one_topic_made_anew_under_load_on_another_loses_nothing_of_either(
    broker: KafkaSettings, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(ensure_topics, broker, namespace, [INTERACTIONS])
    # A consumer has one namespace; this one reads the topics of two.
    catalog = f"{namespace}-other"
    await asyncio.to_thread(ensure_topics, broker, catalog, [CATALOG])
    producer = await asyncio.to_thread(Producer, broker, namespace)
    entries = await asyncio.to_thread(Producer, broker, catalog)
    monkeypatch.setattr(
        "slipstream.broker.consumer.physical",
        lambda own, topic: physical(catalog if topic is CATALOG else own, topic),
    )
    consumer = await asyncio.to_thread(Consumer, broker, namespace, [INTERACTIONS, CATALOG], "g")
    watch = ConsumerWatch(Metrics("test"))
    watch.begin(consumer)
    seen: dict[str, set[str]] = {INTERACTIONS.name: set(), CATALOG.name: set()}
    stopped = asyncio.Event()

    def read() -> None:
        batch = consumer.poll(0.1)
        # The product's loop would take another consumer, where two looks in a row had no answer.
        with suppress(BrokerUnavailableError):
            watch.update()
        for message in batch.messages:
            record = message.record
            seen[message.source.topic].add(
                record.event_id if isinstance(record, Interaction) else record.entity_id
            )
        if batch:
            consumer.commit(batch.next_offsets)

    async def keep_reading() -> None:
        while not stopped.is_set():
            await asyncio.to_thread(read)

    async def until(topic: str, wanted: set[str], limit_s: float = 60.0) -> None:
        deadline = time.monotonic() + limit_s
        while not wanted <= seen[topic]:
            assert not reading.done(), reading.exception()
            assert time.monotonic() < deadline, f"lost: {sorted(wanted - seen[topic])[:5]}"
            await asyncio.sleep(0.05)

    reading = asyncio.create_task(keep_reading())
    await published(entries, items(range(20)))
    await until(CATALOG.name, {f"i{n}" for n in range(20)})
    sent = 0
    recreating = asyncio.create_task(asyncio.to_thread(recreate_topics, broker, catalog))
    while not recreating.done() or sent < 400:
        await published(producer, outgoing(range(sent, sent + 10), users=5))
        sent += 10
        await asyncio.sleep(0.02)
    await recreating
    await published(entries, items(range(20, 30)))
    await until(INTERACTIONS.name, {f"e{n}" for n in range(sent)})
    await until(CATALOG.name, {f"i{n}" for n in range(20, 30)})
    stopped.set()
    await reading
    await asyncio.to_thread(consumer.close)
    await asyncio.to_thread(producer.close)
    await asyncio.to_thread(entries.close)


async def test_records_of_a_topic_that_is_missing_for_a_moment_come_again(
    broker: KafkaSettings, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(ensure_topics, broker, namespace, [INTERACTIONS])
    producer = await asyncio.to_thread(Producer, broker, namespace)
    await producer.publish(outgoing(range(50), users=5))
    consumer = await asyncio.to_thread(Consumer, patient(broker), namespace, [INTERACTIONS], "g")
    answers = iter([{}, {}])  # the broker's metadata leave the topic out, twice
    monkeypatch.setattr(
        "slipstream.broker.log_changes.topic_ids",
        lambda settings, names: next(answers, None) or topic_ids(settings, names),
    )
    ids: list[str] = []
    deadline = time.monotonic() + 60
    while len(ids) < 50:
        assert time.monotonic() < deadline, f"{len(ids)} of 50 came"
        batch = await asyncio.to_thread(consumer.poll, 0.1)
        ids += [message.record.event_id for message in batch.messages]
    assert sorted(ids) == sorted(f"e{n}" for n in range(50))
    await asyncio.to_thread(consumer.close)
    await asyncio.to_thread(producer.close)


@pytest.mark.servers(
    "real"
)  # of a partition's newest records the embedded broker counts only the first
async def test_the_lag_of_a_consumer_outside_its_group_is_what_the_group_has_not_committed(
    broker: KafkaSettings, namespace: str
) -> None:
    await asyncio.to_thread(ensure_topics, broker, namespace, [INTERACTIONS])
    producer = await asyncio.to_thread(Producer, broker, namespace)
    await producer.publish(outgoing(range(40), users=5))
    consumer = await asyncio.to_thread(Consumer, broker, namespace, [INTERACTIONS], "g")
    before = await asyncio.to_thread(told_standing, consumer)
    assert before.lag == {INTERACTIONS.name: 40}, "it has not joined yet"
    seen, offsets = 0, dict[Source, int]()
    deadline = time.monotonic() + 60
    while seen < 40:
        assert time.monotonic() < deadline
        batch = await asyncio.to_thread(consumer.poll, 0.1)
        seen += len(batch.messages)
        offsets |= batch.next_offsets
    while not await asyncio.to_thread(consumer.commit, offsets):
        assert time.monotonic() < deadline, "nothing is committed"
        await asyncio.to_thread(consumer.poll, 0.1)
    after = await asyncio.to_thread(told_standing, consumer)
    assert after.lag == {INTERACTIONS.name: 0}
    assert await asyncio.to_thread(consumer.may_be_spare), "one member has all partitions"
    await asyncio.to_thread(consumer.close)
    deadline = time.monotonic() + 60
    while await asyncio.to_thread(consumer.may_be_spare):
        assert time.monotonic() < deadline, "the member that has left still counts"
        await asyncio.sleep(0.1)
    evicted = await asyncio.to_thread(Consumer, broker, namespace, [INTERACTIONS], "g")
    await published(producer, outgoing(range(40, 65), users=5))
    outside = await asyncio.to_thread(told_standing, evicted)
    assert outside.lag == {INTERACTIONS.name: 25}
    await asyncio.to_thread(evicted.close)
    await asyncio.to_thread(producer.close)
