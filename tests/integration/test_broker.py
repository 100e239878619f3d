"""Producing and consuming over the real wire."""

import asyncio
import threading
import time

import pytest

from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.loop import consume
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.broker.records import Batch
from slipstream.broker.topics import ensure_topics, physical, topic_ids
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import AlertEvent, Severity
from slipstream.contracts.topics import ALERTS, INTERACTIONS
from tests.conftest import OwnBroker, Renewal
from tests.integration.reading import count, patient, read_until
from tests.integration.records import an_interaction, outgoing, published


@pytest.fixture
def producer(broker: KafkaSettings, namespace: str) -> Producer:
    ensure_topics(broker, namespace)
    return Producer(broker, namespace)


def partitions(consumer: Consumer) -> int:
    return len(consumer._client.assignment())


async def test_acknowledged_records_are_read_in_order_with_their_request_id(
    broker: KafkaSettings, namespace: str, producer: Producer
) -> None:
    await producer.publish(outgoing(range(500)))
    consumer = Consumer(broker, namespace, [INTERACTIONS], None)
    batches = await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 500)
    consumer.close()
    producer.close()
    messages = [message for batch in batches for message in batch.messages]
    assert [message.record for message in messages] == [an_interaction(n, "u0") for n in range(500)]
    assert [message.request_id for message in messages] == [f"r{n}" for n in range(500)]
    assert {message.key for message in messages} == {"u0"}
    assert (
        messages[0].source.topic_id
        == topic_ids(broker, [physical(namespace, INTERACTIONS)])[physical(namespace, INTERACTIONS)]
    )


async def test_an_unhurried_topic_waits_for_a_second_while_others_are_read(
    broker: KafkaSettings, namespace: str, producer: Producer
) -> None:
    def alerts(number: int) -> list[OutgoingRecord]:
        alert = AlertEvent(
            alert_id=f"a{number}",
            rule="r",
            severity=Severity.WARNING,
            state="opened",
            summary="…",
            timestamp=1,
        )
        return [OutgoingRecord(ALERTS, alert.rule, alert)]

    consumer = Consumer(broker, namespace, [INTERACTIONS, ALERTS], None, unhurried=[ALERTS])
    await producer.publish(alerts(0))
    await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 1)
    waited_since = time.monotonic()
    await producer.publish(alerts(1) + outgoing(range(1)))
    batches = await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 2)
    waited_s = time.monotonic() - waited_since
    consumer.close()
    producer.close()
    topics = [message.source.topic for batch in batches for message in batch.messages]
    assert topics == [INTERACTIONS.name, ALERTS.name]
    assert waited_s >= 0.5


async def test_group_goes_on_from_what_was_committed(
    broker: KafkaSettings, namespace: str, producer: Producer
) -> None:
    await producer.publish(outgoing(range(100), users=5))
    first = Consumer(patient(broker), namespace, [INTERACTIONS], "g", max_poll_records=40)
    batches = await asyncio.to_thread(read_until, first, lambda b: count(b) >= 40)
    for batch in batches:
        assert first.commit(batch.next_offsets)
    first.close()
    second = Consumer(patient(broker), namespace, [INTERACTIONS], "g")
    rest = await asyncio.to_thread(read_until, second, lambda b: count(b) + count(batches) >= 100)
    second.close()
    producer.close()
    seen = [message.record.event_id for batch in batches + rest for message in batch.messages]
    assert sorted(seen) == sorted(f"e{n}" for n in range(100))


async def test_polls_are_bounded_by_bytes_where_records_are_large(
    broker: KafkaSettings, namespace: str, producer: Producer
) -> None:
    large = {"blob": "x" * 30_000}
    records = [
        one._replace(record=an_interaction(n, one.key).model_copy(update={"properties": large}))
        for n, one in enumerate(outgoing(range(300), users=7))
    ]
    await producer.publish(records)
    settings = broker.model_copy(update={"max_poll_bytes": 1_000_000})
    consumer = Consumer(settings, namespace, [INTERACTIONS], None, max_poll_records=12_000)
    batches = await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 300)
    consumer.close()
    producer.close()
    sizes = [sum(message.size for message in batch.messages) for batch in batches]
    assert sum(sizes) > 9_000_000
    assert max(sizes) < 2_100_000
    seen = [message.record.event_id for batch in batches for message in batch.messages]
    assert sorted(seen) == sorted(f"e{n}" for n in range(300))


async def test_two_members_share_the_partitions_and_the_survivor_takes_over(
    broker: KafkaSettings, namespace: str, producer: Producer
) -> None:
    seen: dict[str, list[str]] = {"a": [], "b": []}
    stops = {name: threading.Event() for name in seen}

    def run(name: str) -> None:
        def handle(batch: Batch) -> None:
            seen[name] += [message.record.event_id for message in batch.messages]

        consume(
            Consumer(broker, namespace, [INTERACTIONS], "g"),
            handle,
            stops[name],
            ConsumerWatch(Metrics(name)),
            poll_s=0.1,
        )

    threads = {name: threading.Thread(target=run, args=(name,)) for name in seen}
    for thread in threads.values():
        thread.start()
    sent = 0
    deadline = time.monotonic() + 60
    while not (seen["a"] and seen["b"]):
        assert time.monotonic() < deadline, {name: len(ids) for name, ids in seen.items()}
        await published(producer, outgoing(range(sent, sent + 60), users=60))
        sent += 60
        await asyncio.sleep(0.05)
    stops["a"].set()
    await asyncio.to_thread(threads["a"].join, 60)
    await published(producer, outgoing(range(sent, sent + 600), users=60))
    sent += 600
    deadline = time.monotonic() + 60
    while len(set(seen["a"]) | set(seen["b"])) < sent:
        assert time.monotonic() < deadline, "the survivor did not take over"
        await asyncio.sleep(0.05)
    stops["b"].set()
    await asyncio.to_thread(threads["b"].join, 60)
    producer.close()
    assert not any(thread.is_alive() for thread in threads.values())


async def test_what_was_not_committed_is_read_again_after_a_rebalance_also_by_a_member_that_stays(
    broker: KafkaSettings, namespace: str, producer: Producer
) -> None:
    await producer.publish(outgoing(range(200), users=60))
    revoked = threading.Event()
    first = Consumer(broker, namespace, [INTERACTIONS], "g", on_revoked=revoked.set)
    await asyncio.to_thread(read_until, first, lambda b: count(b) >= 200)
    revoked.clear()
    second = Consumer(broker, namespace, [INTERACTIONS], "g")
    again: set[str] = set()
    deadline = time.monotonic() + 60
    # On a slow machine the first may come back alone, and read all before the second has joined.
    while len(again) < 200 or [partitions(first), partitions(second)] != [6, 6]:
        assert time.monotonic() < deadline, f"{len(again)} of 200 were read again"
        for batch in await asyncio.gather(
            asyncio.to_thread(first.poll, 0.2), asyncio.to_thread(second.poll, 0.2)
        ):
            if revoked.is_set():
                again |= {message.record.event_id for message in batch.messages}
    first.close()
    second.close()
    producer.close()


async def test_bytes_that_are_no_record_come_as_malformed_and_do_not_block(
    broker: KafkaSettings, namespace: str, producer: Producer
) -> None:
    producer._producer.send(physical(namespace, INTERACTIONS), b"{not json", b"u0").get(60)
    await published(producer, outgoing(range(1)))
    consumer = Consumer(broker, namespace, [INTERACTIONS], None)
    batches = await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 1)
    consumer.close()
    producer.close()
    malformed = [m for batch in batches for m in batch.malformed]
    assert [m.value for m in malformed] == [b"{not json"] and malformed[0].reason


@pytest.mark.parametrize("group", ["g", None])
async def test_consumer_goes_on_after_a_renewal(
    renewal: Renewal, namespace: str, group: str | None
) -> None:
    settings, renew = renewal
    producer = Producer(settings, namespace)
    await producer.publish(outgoing(range(100), users=5))
    consumer = Consumer(settings, namespace, [INTERACTIONS], group)
    before = await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 100)
    for batch in before:
        consumer.commit(batch.next_offsets)
    renew()
    deadline = time.monotonic() + 60
    while True:
        try:
            await producer.publish(outgoing(range(100, 110)))
            break
        except BrokerUnavailableError:
            assert time.monotonic() < deadline, "the producer did not recover"
            await asyncio.sleep(0.1)
    after = await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 10)
    assert {m.record.event_id for b in after for m in b.messages} == {
        f"e{n}" for n in range(100, 110)
    }
    assert {m.source.topic_id for b in after for m in b.messages} == set(
        topic_ids(settings, [physical(namespace, INTERACTIONS)]).values()
    )
    consumer.close()
    producer.close()


async def test_offsets_from_before_a_renewal_pass_nothing_that_came_after_it(
    renewal: Renewal, namespace: str
) -> None:
    settings, renew = renewal
    producer = Producer(settings, namespace)
    await producer.publish(outgoing(range(100)))
    consumer = Consumer(settings, namespace, [INTERACTIONS], "g")
    before = await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 100)
    producer.close()
    renew()
    producer = Producer(settings, namespace)
    await producer.publish(outgoing(range(100, 300)))
    producer.close()
    consumer.commit(before[-1].next_offsets)  # before it has noticed anything
    await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 200)
    consumer.commit(before[-1].next_offsets)  # and after
    consumer.close()
    follower = Consumer(settings, namespace, [INTERACTIONS], "g")
    after = await asyncio.to_thread(read_until, follower, lambda b: count(b) >= 200)
    follower.close()
    assert [m.record.event_id for b in after for m in b.messages] == [
        f"e{n}" for n in range(100, 300)
    ]


async def test_broker_that_is_away_is_waited_for(own_broker: OwnBroker, namespace: str) -> None:
    settings, server = own_broker()
    ensure_topics(settings, namespace)
    producer = Producer(settings, namespace)
    await producer.publish(outgoing(range(1)))
    producer.close()
    consumer = Consumer(settings, namespace, [INTERACTIONS], "g")
    await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 1)
    server.kill()
    for _ in range(3):
        assert not consumer.poll(0.1)
    consumer.close()


def test_no_broker_is_a_clear_error() -> None:
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    with pytest.raises(BrokerUnavailableError, match=r"no Kafka broker answers at 127.0.0.1:1"):
        ensure_topics(settings, "t")


def test_ensure_topics_twice_changes_nothing(broker: KafkaSettings, namespace: str) -> None:
    ensure_topics(broker, namespace)
    name = physical(namespace, INTERACTIONS)
    before = topic_ids(broker, [name])
    ensure_topics(broker, namespace)
    assert topic_ids(broker, [name]) == before
