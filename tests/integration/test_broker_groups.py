"""Groups with more members than partitions, and their spare members."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from slipstream.broker.consumer import Consumer, describe_group
from slipstream.broker.topics import ensure_topics, physical
from slipstream.broker.watch import PATIENCE_S, ConsumerWatch
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import ALERTS, INTERACTIONS
from tests.integration.reading import told_standing


@contextmanager
def polled(consumers: list[Consumer]) -> Iterator[None]:
    """Poll each consumer in a thread of its own, as their services would."""
    stop = threading.Event()

    def poll(consumer: Consumer) -> None:
        while not stop.is_set():
            consumer.poll(0.05)

    threads = [threading.Thread(target=poll, args=(consumer,)) for consumer in consumers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def settled(consumers: list[Consumer]) -> bool:
    standings = [consumer.standing() for consumer in consumers]
    assigned = [len(standing.partitions) for standing in standings if standing is not None]
    joined = all(consumer.membership.joined for consumer in consumers)
    return joined and sorted(assigned) == [0, 1]


async def test_a_spare_member_is_well_and_known_as_such(
    broker: KafkaSettings, namespace: str
) -> None:
    await asyncio.to_thread(ensure_topics, broker, namespace, [ALERTS])
    consumers = [
        await asyncio.to_thread(Consumer, broker, namespace, [ALERTS], "g") for _ in range(2)
    ]
    deadline = time.monotonic() + 60
    while True:
        with polled(consumers):
            await asyncio.sleep(1.0)
        if await asyncio.to_thread(settled, consumers):
            break
        assert time.monotonic() < deadline, [consumer.membership for consumer in consumers]
    spare = next(consumer for consumer in consumers if not told_standing(consumer).partitions)
    assert told_standing(spare).lag == {ALERTS.name: 0}
    assert await asyncio.to_thread(spare.may_be_spare)

    now = 100.0
    watch = ConsumerWatch(Metrics("test"), clock=lambda: now)
    watch.begin(spare)
    for _ in range(3):
        now += PATIENCE_S / 2 + 1
        with polled(consumers):
            await asyncio.sleep(0.2)
        watch.update()
        await watch.check()
    for consumer in consumers:
        await asyncio.to_thread(consumer.close)


def test_a_group_that_does_not_exist_has_no_members(broker: KafkaSettings, namespace: str) -> None:
    ensure_topics(broker, namespace, [INTERACTIONS])
    description = describe_group(broker, f"{namespace}.nobody")
    assert description.members == 0
    assert not description.is_full([(physical(namespace, INTERACTIONS), 0)])


async def test_a_member_that_leaves_amid_a_join_locks_nobody_out(
    broker: KafkaSettings, namespace: str
) -> None:
    await asyncio.to_thread(ensure_topics, broker, namespace, [INTERACTIONS])

    def join_after_one_that_left() -> None:
        first, second = (Consumer(broker, namespace, [INTERACTIONS], "g") for _ in range(2))
        with polled([first, second]):
            wait_until_joined(first, second)
        second.close()
        deadline = time.monotonic() + 90
        # Apache Kafka may end the join within the poll that begins it.
        while first.membership.joined and not has_all(first):
            assert time.monotonic() < deadline, "no rebalance began"
            first.poll(0.02)
        first.close()
        third = Consumer(broker, namespace, [INTERACTIONS], "g")
        with polled([third]):
            wait_until_joined(third)
        third.close()

    await asyncio.to_thread(join_after_one_that_left)


async def test_a_member_that_leaves_amid_a_long_join_locks_nobody_out(
    broker: KafkaSettings, namespace: str
) -> None:
    await asyncio.to_thread(ensure_topics, broker, namespace, [INTERACTIONS])
    # The embedded broker holds the join for half of that, as one that was stopped for seconds does.
    slow = broker.model_copy(update={"session_timeout_ms": 8_000})

    def join_after_one_that_left() -> None:
        first = Consumer(slow, namespace, [INTERACTIONS], "g")
        first.poll(0.2)
        first.close()
        second = Consumer(broker, namespace, [INTERACTIONS], "g")
        with polled([second]):
            wait_until_joined(second)
        second.close()

    await asyncio.to_thread(join_after_one_that_left)


def has_all(consumer: Consumer) -> bool:
    standing = consumer.standing()
    return standing is not None and len(standing.partitions) == INTERACTIONS.partitions


def wait_until_joined(*consumers: Consumer, limit_s: float = 90.0) -> None:
    deadline = time.monotonic() + limit_s
    while not all(consumer.membership.joined for consumer in consumers):
        assert time.monotonic() < deadline, [consumer.membership for consumer in consumers]
        time.sleep(0.02)
