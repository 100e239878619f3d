"""Order of the copies of a message on their topic."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.ingestion import publisher as publisher_module
from services.ingestion.outcomes import Acceptance, Admission, Origin, Outcome
from services.ingestion.publisher import ENOUGH, OutcomePublisher
from slipstream.broker.kafka import NotAcknowledgedError
from slipstream.broker.producer import Failure, OutgoingRecord
from slipstream.chassis.errors import UnavailableError
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.events import NewInteraction
from slipstream.stores.admission_store import (
    FIRST,
    PENDING,
    AdmissionQuery,
    AdmissionVerdict,
    Rates,
)
from tests.spans import parent_of, traces_of

ORIGIN = Origin("shop", "r", 1_700_000_000_000)


class SlowAnswers:
    """A store that knows ids at once, as Redis does, and answers when the test lets it."""

    remembers = True

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.calls: list[tuple[list[str], asyncio.Event]] = []

    def message_key(self, source: str, kind: str, message_id: str) -> str:
        return message_id

    def acknowledged(self, keys: Sequence[str]) -> None:
        pass

    async def judge(self, requests: Sequence[AdmissionQuery]) -> list[AdmissionVerdict]:
        judged = []
        for request in requests:
            judged.append(
                AdmissionVerdict(
                    bytes(PENDING if key in self.seen else FIRST for key in request.ids)
                )
            )
            self.seen.update(key for key in request.ids if key)
        self.calls.append(
            ([key for request in requests for key in request.ids if key], asyncio.Event())
        )
        await self.calls[-1][1].wait()
        return judged


class Topic:
    """A carrier that never acknowledges."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bool]] = []

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        for record in (outgoing.record for records in lists for outgoing in records):
            assert isinstance(record, NewInteraction)
            self.records.append((record.event_id, record.maybe_repeat))
        await asyncio.Event().wait()
        return []


def message(message_id: str) -> list[Outcome]:
    at = ORIGIN.received_at
    event = NewInteraction(
        event_id=message_id,
        event_type="view",
        user_id="u",
        item_id="i",
        timestamp=at,
        received_at=at,
    )
    return [Acceptance(message_id, [event], True)]


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_copy_that_is_judged_first_is_first_on_the_topic() -> None:
    store, topic = SlowAnswers(), Topic()
    fake: Any = store
    publisher = OutcomePublisher(topic, CollectorRegistry(), Admission(fake, Rates(), Rates()))
    requests = []
    for message_id in ("a", "a", "b"):
        requests.append(asyncio.ensure_future(publisher.publish(message(message_id), ORIGIN)))
        await turns()
        publisher._depart()  # its time is over
        await turns()
    assert [keys for keys, _ in store.calls] == [["a"], ["b"]], (
        "the second copy waits, and others do not"
    )
    store.calls[1][1].set()
    await turns()
    assert topic.records == [("b", False)]
    store.calls[0][1].set()
    await turns()
    store.calls[2][1].set()
    await turns()
    assert topic.records == [("b", False), ("a", False), ("a", True)]
    for request in requests:
        request.cancel()


async def test_copies_in_one_go_stay_in_order() -> None:
    store, topic = SlowAnswers(), Topic()
    fake: Any = store
    publisher = OutcomePublisher(topic, CollectorRegistry(), Admission(fake, Rates(), Rates()))
    requests = [asyncio.ensure_future(publisher.publish(message("a"), ORIGIN)) for _ in range(2)]
    await turns()
    store.calls[0][1].set()
    await turns()
    assert topic.records == [("a", False), ("a", True)]
    requests.append(asyncio.ensure_future(publisher.publish(message("a"), ORIGIN)))
    await turns()
    publisher._depart()
    await turns()
    assert len(store.calls) == 2, "no request waits for what has been handed over"
    for request in requests:
        request.cancel()


async def test_a_single_message_does_not_gather_behind_a_large_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publisher_module, "GATHER_S", 60.0)
    topic = Topic()
    publisher = OutcomePublisher(topic, CollectorRegistry())
    batch = [message(f"b{number}")[0] for number in range(ENOUGH)]
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(publisher.publish(batch, ORIGIN))]
        await turns()
        waiting.append(group.create_task(publisher.publish(message("alone"), ORIGIN)))
        await turns()
        assert topic.records[-1] == ("alone", False)
        # This one gathers, behind the single one.
        waiting.append(group.create_task(publisher.publish(message("next"), ORIGIN)))
        await turns()
        assert topic.records[-1] == ("alone", False)
        for task in waiting:
            task.cancel()


class Refusal:
    """A carrier that delivers the first caller's records, and no other's."""

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        return [None, *(NotAcknowledgedError("no answer") for _ in lists[1:])]


async def test_of_a_group_each_traced_request_has_its_own_parts() -> None:
    metrics = Metrics("ingestion")
    traces = traces_of(metrics)
    publisher = OutcomePublisher(Refusal(), metrics.registry)
    delivered, failed = traces.request("r-1"), traces.request("r-2")
    results = await asyncio.gather(
        *(
            publisher.publish(message(f"m{place}"), ORIGIN._replace(request_id=rid))
            for place, rid in enumerate((delivered, failed, "r-3"))
        ),
        return_exceptions=True,
    )
    assert [isinstance(result, UnavailableError) for result in results] == [False, True, True]
    assert [(span.name, parent_of(span), span.status.is_ok) for span in traces.spans] == [
        ("admission", delivered.traceparent[36:52], True),
        ("delivery", delivered.traceparent[36:52], True),
        ("admission", failed.traceparent[36:52], True),
        ("delivery", failed.traceparent[36:52], False),
    ]
