import asyncio
from collections.abc import Sequence

import orjson

from services.serving.request import recording
from services.serving.request.recording import GROUP, SlateOutbox
from slipstream.broker.producer import OutgoingRecord
from slipstream.broker.records import encode
from slipstream.chassis.logging import carrying
from slipstream.contracts.events import Slate
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.slates.slate_request import Item


class Broker:
    def __init__(self) -> None:
        self.groups: list[list[OutgoingRecord]] = []
        self.failure: Exception | None = None
        self.failures: list[Exception] = []
        self.came = asyncio.Event()

    def send(self, records: Sequence[OutgoingRecord]) -> None:
        self.came.set()
        if self.failure is not None:
            raise self.failure
        self.groups.append(list(records))

    def outbox(self) -> SlateOutbox:
        return SlateOutbox(self.send, self.failures.append)


def a_slate(number: int = 0) -> Slate:
    return Slate.of_checked(
        recommendation_id=f"r{number}",
        user_id=f"u{number}",
        timestamp=1,
        items=[Item("a", 0.5, "ease")],
        answered_by="model",
    )


async def test_slates_of_a_moment_go_together_each_under_its_own_request() -> None:
    broker = Broker()
    outbox = broker.outbox()
    for number in range(3):
        with carrying(f"request-{number}"):
            outbox.add(a_slate(number))
    assert broker.groups == []
    await broker.came.wait()
    (group,) = broker.groups
    assert [(record.topic, record.key, record.request_id) for record in group] == [
        (RECOMMENDATIONS, f"u{number}", f"request-{number}") for number in range(3)
    ]


async def test_no_more_than_a_group_ever_waits() -> None:
    broker = Broker()
    outbox = broker.outbox()
    for number in range(2 * GROUP + 1):
        outbox.add(a_slate(number))
    assert [len(group) for group in broker.groups] == [GROUP, GROUP]
    outbox.hand_over()
    outbox.hand_over()
    assert [len(group) for group in broker.groups] == [GROUP, GROUP, 1]
    await asyncio.sleep(2 * recording._DELAY_S)
    assert len(broker.groups) == 3, "a handed group needs no timer any more"


async def test_a_sender_that_raises_is_told_of_and_the_next_group_goes_out() -> None:
    broker = Broker()
    outbox = broker.outbox()
    broker.failure = RuntimeError("no broker")
    outbox.add(a_slate())
    await broker.came.wait()
    assert [str(error) for error in broker.failures] == ["no broker"]
    broker.failure = None
    outbox.add(a_slate(1))
    outbox.hand_over()
    assert [record.key for record in broker.groups[0]] == ["u1"]


def test_a_checked_slate_is_the_bytes_of_a_validated_one() -> None:
    made = a_slate()
    validated = Slate.model_validate(orjson.loads(encode(made)))
    assert validated == made
    assert encode(validated) == encode(made)
