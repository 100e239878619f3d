"""Delivery's limit of what waits for the broker, with a client that answers on request."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from slipstream.broker.client import encoded_headers
from slipstream.broker.delivery import Delivery, OutgoingRecord
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.records import headers_of
from slipstream.chassis.logging import TracedId
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
        self.headers: list[object] = []

    @contextmanager
    def appending(self) -> Iterator[None]:
        yield

    def partitions_known(self, topic: str) -> int:
        return 1

    def append(self, *record: object) -> Answer:
        self.headers.append(record[-1])
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


def test_records_have_the_headers_of_their_own_request_also_where_ids_are_equal() -> None:
    client = Client()
    delivery = Delivery(
        {INTERACTIONS.name: "t"}, 60.0, max_bytes=1, doubt=lambda: None, failed=lambda _: None
    )
    ids = ["r", TracedId("r", f"00-{'a' * 32}-{'b' * 16}-01"), "r", "", "r2"]
    with delivery.appending(client) as append:  # type: ignore[arg-type]
        for rid in ids:
            append(OutgoingRecord(INTERACTIONS, "ada", b"x", rid))
    assert client.headers == [encoded_headers(headers_of(rid)) for rid in ids]
    assert client.headers[0] != client.headers[1]
