"""Delivery's limit of what waits for the broker, with a client that answers on request."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from slipstream.broker.delivery import Delivery, OutgoingRecord
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.contracts.topics import INTERACTIONS


class Answer:
    """The library's future of a batch."""

    def __init__(self) -> None:
        self.is_done, self.exception, self.value = False, None, (0, 0, None)
        self._callbacks: list[Callable[[Any], None]] = []

    def add_both(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def give(self) -> None:
        self.is_done = True
        for callback in self._callbacks:
            callback(self.value)


class Client:
    def __init__(self) -> None:
        self.answers: list[Answer] = []

    @contextmanager
    def appending(self) -> Iterator[None]:
        yield

    def partitions_known(self, topic: str) -> int:
        return 1

    def append(self, *_record: object) -> Answer:
        self.answers.append(Answer())
        return self.answers[-1]


async def test_what_waits_for_the_broker_is_bounded_by_bytes() -> None:
    """Records of a broker that stands still would fill the memory within its delivery timeout."""
    client, troubles = Client(), []
    delivery = Delivery(
        {INTERACTIONS.name: "t"}, 60.0, max_bytes=1_000, doubt=lambda: None, failed=troubles.append
    )
    lists = [[OutgoingRecord(INTERACTIONS, "ada", b"x" * 100)] * 3] * 5
    waiting = asyncio.create_task(delivery.deliver(client, lists))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert len(client.answers) == 12
    refused = await delivery.deliver(client, lists[:2])  # type: ignore[arg-type]
    assert [type(failure) for failure in refused] == [BrokerUnavailableError] * 2
    for answer in client.answers:
        answer.give()
    *taken, last = await waiting
    assert taken == [None] * 4 and isinstance(last, BrokerUnavailableError)

    again = asyncio.create_task(delivery.deliver(client, lists[:1]))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    for answer in client.answers[12:]:
        answer.give()
    assert await again == [None]
    assert troubles == []
