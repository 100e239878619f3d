"""Publishing over the real wire: acknowledgements, refusals, partitions, an absent broker."""

import asyncio
import time
import uuid

import pytest

from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import BrokerUnavailableError, RecordRefusedError
from slipstream.broker.producer import OutgoingRecord, Producer, open_producer
from slipstream.broker.records import encode, headers_of
from slipstream.broker.topics import ensure_topics, physical
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import CATALOG, INTERACTIONS, TOPICS
from tests.conftest import OwnBroker
from tests.integration.reading import count, read_until
from tests.integration.records import an_interaction, outgoing, published


@pytest.fixture
def producer(broker: KafkaSettings, namespace: str) -> Producer:
    ensure_topics(broker, namespace)
    return Producer(broker, namespace)


async def until_published(producer: Producer) -> None:
    """Publish a record until it is acknowledged; as often as that takes."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await producer.publish(outgoing(range(1)))
            await producer.check()
            return
        except BrokerUnavailableError:
            assert time.monotonic() < deadline, "the producer did not recover"
            await asyncio.sleep(0.1)


async def test_publish_fails_in_time_when_the_broker_is_away(
    own_broker: OwnBroker, namespace: str
) -> None:
    settings, server = own_broker()
    settings = settings.model_copy(update={"delivery_timeout_ms": 1_500})
    ensure_topics(settings, namespace)
    producer = Producer(settings, namespace)
    await until_published(producer)  # the first record may take longer on a busy machine
    server.kill()
    started = time.monotonic()
    with pytest.raises(BrokerUnavailableError):
        await producer.publish(outgoing(range(3)))
    assert time.monotonic() - started < 60
    with pytest.raises(BrokerUnavailableError):
        await producer.check()
    server.start()
    ensure_topics(settings, namespace)
    await until_published(producer)
    producer.close()


async def test_records_handed_over_together_lie_where_the_library_puts_them(
    broker: KafkaSettings, namespace: str, producer: Producer
) -> None:
    records = outgoing(range(200), users=30)
    for topic, key, record, request_id in records:
        producer._producer.send(
            physical(namespace, topic),
            encode(record),
            key.encode(),
            headers_of(request_id),
        )
    producer.flush()
    producer.send_all(records)
    producer.flush()
    await published(producer, records)
    await published(producer, [o._replace(record=encode(o.record)) for o in records])
    consumer = Consumer(broker, namespace, [INTERACTIONS], None)
    batches = await asyncio.to_thread(read_until, consumer, lambda b: count(b) >= 800)
    consumer.close()
    producer.close()
    by_source: dict[Source, list[tuple[str, str, Interaction]]] = {}
    for message in (message for batch in batches for message in batch.messages):
        by_source.setdefault(message.source, []).append(
            (message.key, message.request_id, message.record)
        )
    for messages in by_source.values():
        quarter = len(messages) // 4
        by_library, *others = (
            messages[begin : begin + quarter] for begin in range(0, len(messages), quarter)
        )
        assert others == [by_library] * 3
    assert producer.failures == 0


async def test_refused_record_fails_alone_and_the_client_stays(
    broker: KafkaSettings, namespace: str, producer: Producer
) -> None:
    client = producer._producer
    await producer.publish(outgoing(range(1)))
    large = OutgoingRecord(INTERACTIONS, "u", b"x" * 2_000_000)
    fine, refused = await producer.publish_each([outgoing(range(1)), [large]])
    assert fine is None and isinstance(refused, RecordRefusedError)
    await asyncio.sleep(0.5)
    assert producer._producer is client
    producer.close()


async def test_publish_waits_for_partitions_without_holding_up_the_event_loop(
    broker: KafkaSettings, namespace: str
) -> None:
    await asyncio.to_thread(ensure_topics, broker, namespace, [CATALOG])
    producer = await asyncio.to_thread(
        Producer, broker, namespace
    )  # one of its topics does not exist
    # For so long the library's own send would wait, in the event loop.
    producer._producer.config["max_block_ms"] = 60_000
    entry = OutgoingRecord(
        CATALOG, "item:kettle", CatalogRecord(entity="item", entity_id="kettle", timestamp=1)
    )
    publishing = asyncio.create_task(producer.publish_each([outgoing(range(3)), [entry]]))
    started = time.monotonic()
    await asyncio.sleep(0.01)
    assert time.monotonic() - started < 30, "the event loop was held up"
    assert await publishing == [None, None]
    producer.send(INTERACTIONS, "u0", an_interaction(3))
    producer.flush()
    assert producer.failures == 0
    producer.close()


async def test_a_topic_that_nobody_has_written_to_takes_its_first_record_at_once(
    broker: KafkaSettings, namespace: str
) -> None:
    # A real broker tells a client only of the topics that it was asked about.
    producer = await open_producer(broker, namespace)
    for topic in TOPICS:
        assert producer._producer.partitions_known(physical(namespace, topic)) == topic.partitions
    producer.close()


async def test_an_answer_without_the_topic_does_not_change_its_id(
    broker: KafkaSettings, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = producer.topic_id(INTERACTIONS)
    assert made
    # As the metadata say it of a topic that the answering broker does not have.
    monkeypatch.setattr(producer._producer._metadata, "topic_id", lambda _: uuid.UUID(int=0))
    assert producer.topic_id(INTERACTIONS) == made, "only another id says that it was recreated"
    another = uuid.uuid4()
    monkeypatch.setattr(producer._producer._metadata, "topic_id", lambda _: another)
    assert producer.topic_id(INTERACTIONS) == str(another)
    producer.close()
