"""kafka-python's clients as `slipstream/broker` mends them, also when answers are lost.

The producer's `append` is in `test_broker.py`, compared with the library's own `send`. Private
parts are checked one by one in `test_broker_private_parts.py`.
"""

import asyncio
import time
from collections.abc import Iterator

import pytest
from kafka import OffsetAndMetadata, TopicPartition

from slipstream.broker.consumer import Consumer
from slipstream.broker.consumer_client import ConsumerClient
from slipstream.broker.kafka import BrokerUnavailableError, connection
from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics, physical, topic_ids
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import CATALOG, INTERACTIONS, RECOMMENDATIONS
from tests.integration.reading import patient
from tests.integration.records import outgoing, published
from tests.kafka_proxy import Api, KafkaProxy, Rule
from tests.servers import Servers

ProxiedBroker = tuple[KafkaSettings, KafkaProxy]


def poll_until_assigned(consumer: Consumer, poll_s: float = 0.1, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not consumer._client.assignment():
        assert time.monotonic() < deadline, f"not assigned after {limit_s} s; {consumer.membership}"
        consumer.poll(poll_s)


def event_ids(consumer: Consumer, enough: int, limit_s: float = 60.0) -> list[str]:
    """The ids of events until `enough` have come, and for a second longer, so that doubles show."""
    ids: list[str] = []
    deadline, end = time.monotonic() + limit_s, float("inf")
    while time.monotonic() < end:
        assert time.monotonic() < deadline, f"{len(ids)} of {enough} came"
        batch = consumer.poll(0.1)
        ids += [message.record.event_id for message in batch.messages]
        if len(ids) >= enough:
            end = min(end, time.monotonic() + 1.0)
    return ids


@pytest.fixture
def client(broker: KafkaSettings, namespace: str) -> Iterator[ConsumerClient]:
    """A consumer of interactions that is alone in its group, before its first poll."""
    settings = patient(broker)
    ensure_topics(settings, namespace, [INTERACTIONS])
    made = ConsumerClient(
        max_poll_bytes=settings.max_poll_bytes,
        **connection(settings),
        group_id=f"{namespace}.g",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=settings.session_timeout_ms // 10,
    )
    made.subscribe([physical(namespace, INTERACTIONS)])
    yield made
    made.close()


@pytest.mark.parametrize(("poll_s", "spare"), [(0.1, 0), (0.1, 1), (0.005, 0)])
async def test_a_join_that_outlives_its_poll_is_finished(
    proxied_broker: ProxiedBroker, namespace: str, poll_s: float, spare: int
) -> None:
    settings, proxy = proxied_broker
    await asyncio.to_thread(
        ensure_topics, settings, namespace, [INTERACTIONS, CATALOG, RECOMMENDATIONS]
    )
    proxy.rules.append(Rule(Api.SYNC_GROUP, hold_s=0.3, spare=spare))
    for attempt in range(2):
        consumer = await asyncio.to_thread(
            Consumer, settings, namespace, [INTERACTIONS, CATALOG, RECOMMENDATIONS], f"g{attempt}"
        )
        await asyncio.to_thread(poll_until_assigned, consumer, poll_s)
        await asyncio.to_thread(consumer.close)
    assert proxy.applied[Api.SYNC_GROUP]


def test_a_join_that_ends_between_two_polls_counts(client: ConsumerClient, namespace: str) -> None:
    partitions = [TopicPartition(physical(namespace, INTERACTIONS), 0)]
    for _ in range(10):
        client.poll(50)
        if client.assignment():
            return
        # One answer waits behind that to JoinGroup, one behind that to SyncGroup: all of them come
        # on the same connection.
        client.committed_offsets(partitions, 60_000)
        client.committed_offsets(partitions, 60_000)
    pytest.fail(f"not assigned: {client.membership}")


async def test_metadata_that_come_late_delay_a_join_and_no_more(
    proxied_broker: ProxiedBroker, namespace: str
) -> None:
    settings, proxy = proxied_broker
    await asyncio.to_thread(ensure_topics, settings, namespace, [INTERACTIONS])
    proxy.rules.append(Rule(Api.METADATA, hold_s=0.5, spare=1))
    consumer = await asyncio.to_thread(Consumer, settings, namespace, [INTERACTIONS], "g")
    await asyncio.to_thread(poll_until_assigned, consumer)
    await asyncio.to_thread(consumer.close)


async def test_lost_answers_of_the_broker_double_nothing(
    proxied_broker: ProxiedBroker, namespace: str
) -> None:
    settings, proxy = proxied_broker
    await asyncio.to_thread(ensure_topics, settings, namespace, [INTERACTIONS])
    patiently = settings.model_copy(update={"delivery_timeout_ms": 60_000})
    producer = await asyncio.to_thread(Producer, patiently, namespace)
    await producer.publish(outgoing(range(10), users=7))
    proxy.rules.append(Rule(Api.PRODUCE, lose_answer=True, times=2))
    proxy.rules.append(Rule(Api.PRODUCE, cut=True, times=1, spare=1))
    await published(producer, outgoing(range(10, 300), users=7))
    assert proxy.applied[Api.PRODUCE] >= 2
    await asyncio.to_thread(producer.close)
    consumer = await asyncio.to_thread(Consumer, settings, namespace, [INTERACTIONS], None)
    ids = await asyncio.to_thread(event_ids, consumer, 300)
    await asyncio.to_thread(consumer.close)
    assert sorted(ids) == sorted(f"e{n}" for n in range(300))


async def test_a_commit_whose_answer_is_lost_counts(
    proxied_broker: ProxiedBroker, namespace: str
) -> None:
    settings, proxy = proxied_broker
    await asyncio.to_thread(ensure_topics, settings, namespace, [INTERACTIONS])
    producer = await asyncio.to_thread(Producer, settings, namespace)
    await producer.publish(outgoing(range(50), users=7))
    first = await asyncio.to_thread(Consumer, patient(settings), namespace, [INTERACTIONS], "g")
    offsets = {}
    seen = 0
    while seen < 50:
        batch = await asyncio.to_thread(first.poll, 0.1)
        seen += len(batch.messages)
        offsets |= batch.next_offsets
    proxy.rules.append(Rule(Api.OFFSET_COMMIT, lose_answer=True, times=1))
    await asyncio.to_thread(first.commit, offsets)
    assert proxy.applied[Api.OFFSET_COMMIT] == 1
    await asyncio.to_thread(first.close)
    await published(producer, outgoing(range(50, 60), users=7))
    second = await asyncio.to_thread(Consumer, patient(settings), namespace, [INTERACTIONS], "g")
    assert sorted(await asyncio.to_thread(event_ids, second, 10)) == sorted(
        f"e{n}" for n in range(50, 60)
    )
    await asyncio.to_thread(second.close)
    await asyncio.to_thread(producer.close)


def test_membership_follows_joins_and_heartbeats(client: ConsumerClient) -> None:
    def confirmed() -> float:
        return time.monotonic() - client.membership.silent_s

    assert not client.membership.joined
    deadline = time.monotonic() + 60
    while not client.membership.joined:
        assert time.monotonic() < deadline
        client.poll(100)
    first = confirmed()
    while confirmed() < first + 0.1:  # until a heartbeat, which the client's own thread sends
        assert time.monotonic() < deadline, "no heartbeat was answered"
        time.sleep(0.05)
    assert client.membership.joined
    client._coordinator._disable_heartbeat()
    while client.membership.silent_s < 1.5:  # an answer that was under way may come first
        assert time.monotonic() < deadline, "heartbeats go on"
        time.sleep(0.05)
    assert client._coordinator._join_task is None, "a join that has ended is not held on to"


def test_positions_commits_ends_ids_and_connections_are_what_the_library_knows(
    client: ConsumerClient, broker: KafkaSettings, namespace: str
) -> None:
    assert client.positions() == {}
    partitions = [
        TopicPartition(physical(namespace, INTERACTIONS), number)
        for number in range(INTERACTIONS.partitions)
    ]
    deadline = time.monotonic() + 60
    while len(client.positions()) < len(partitions) or None in client.positions().values():
        assert time.monotonic() < deadline
        client.poll(100)
    assert client.positions() == dict.fromkeys(partitions, 0)
    assert client.connections()
    client.refresh_metadata(60_000)
    assert (
        client.topic_id(partitions[0].topic)
        == topic_ids(broker, [partitions[0].topic])[partitions[0].topic]
    )
    assert client.committed_offsets(partitions, 60_000) == {}
    client.commit({partitions[3]: OffsetAndMetadata(5, "", -1)}, timeout_ms=60_000)
    assert [(at, o.offset) for at, o in client.committed_offsets(partitions, 60_000).items()] == [
        (partitions[3], 5)
    ]
    assert client.ends(partitions, 60_000) == dict.fromkeys(partitions, 0)
    client.seek(partitions[0], 0)
    assert client.positions()[partitions[0]] == 0


def test_positions_of_an_assignment_without_a_beginning_are_none(
    broker: KafkaSettings, namespace: str
) -> None:
    ensure_topics(broker, namespace, [INTERACTIONS])
    client = ConsumerClient(
        max_poll_bytes=broker.max_poll_bytes,
        **connection(broker),
        group_id=None,
        enable_auto_commit=False,
    )
    partition = TopicPartition(physical(namespace, INTERACTIONS), 0)
    client.assign([partition])
    assert client.positions() == {partition: None}
    client.close()


@pytest.mark.servers("real")  # the embedded broker knows no static members
class TestStaticMembership:
    def test_a_replica_that_died_is_replaced_at_once_by_one_of_the_same_name(
        self, broker: KafkaSettings, namespace: str, servers: Servers
    ) -> None:
        settings = broker.model_copy(
            update={"instance_id": "features-0", "session_timeout_ms": 45_000}
        )
        ensure_topics(settings, namespace, [INTERACTIONS])
        dead = Consumer(settings, namespace, [INTERACTIONS], "g")
        poll_until_assigned(dead)
        dead._client._net.stop()  # its thread ends as with the process: no heartbeat, no farewell
        heir = Consumer(settings, namespace, [INTERACTIONS], "g")
        poll_until_assigned(heir, limit_s=35)  # before the session's 45 s
        heir.close()

    def test_two_replicas_of_one_name_are_told_so(
        self, broker: KafkaSettings, namespace: str
    ) -> None:
        settings = broker.model_copy(update={"instance_id": "features-0"})
        ensure_topics(settings, namespace, [INTERACTIONS])
        first = Consumer(settings, namespace, [INTERACTIONS], "g")
        poll_until_assigned(first)
        deadline = time.monotonic() + 60
        while not first.positions():
            assert time.monotonic() < deadline, "it does not find where to begin"
            first.poll(0.1)
        source = next(iter(first.positions()))
        second = Consumer(settings, namespace, [INTERACTIONS], "g")
        poll_until_assigned(second)
        deadline = time.monotonic() + 60
        with pytest.raises(
            BrokerUnavailableError,
            match="give each replica a SLIPSTREAM_KAFKA__INSTANCE_ID of its own",
        ):
            # A broker that is slow to answer is asked again.
            while not first.commit({source: 0}):
                assert time.monotonic() < deadline, "the broker does not answer"
        first.close()
        second.close()
