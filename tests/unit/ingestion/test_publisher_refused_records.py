"""Records that the broker refuses for good, and letters that must not become such records."""

from collections.abc import Callable, Sequence

import orjson
import pytest
from prometheus_client import CollectorRegistry

from services.ingestion.fields import Code, RejectionError
from services.ingestion.outcomes import Acceptance, Duplicate, Origin, Outcome, Rejection
from services.ingestion.publisher import MAX_ORIGINAL_BYTES, OutcomePublisher, records_of
from slipstream.broker.kafka import BrokerUnavailableError, RecordRefusedError
from slipstream.broker.producer import Failure, OutgoingRecord
from slipstream.broker.records import encode
from slipstream.chassis.errors import UnavailableError
from slipstream.contracts.events import DeadLetter, NewInteraction
from tests.unit.ingestion.collector import AUTH, Acknowledging, collecting
from tests.unit.ingestion.payloads import track

ORIGIN = Origin("shop", "r", 1_700_000_000_000)
# What the producer's client takes at most.
REQUEST_BYTES = 1_048_576


class Broker:
    """A carrier that takes a caller's records up to the first one that it refuses."""

    def __init__(self, refuses: Callable[[OutgoingRecord], bool], *, stays: bool = True) -> None:
        self._refuses, self._stays = refuses, stays
        self.taken: list[tuple[str, bool]] = []
        self.rounds = 0

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        self.rounds += 1
        if self.rounds > 1 and not self._stays:
            return [BrokerUnavailableError("gone")] * len(lists)
        return [self._publish(records) for records in lists]

    def _publish(self, records: Sequence[OutgoingRecord]) -> Failure:
        for record in records:
            if self._refuses(record):
                return RecordRefusedError("too large")
            if isinstance(record.record, NewInteraction):
                self.taken.append((record.key, record.record.maybe_repeat))
        return None


def message(user: str) -> Outcome:
    at = ORIGIN.received_at
    event = NewInteraction(
        event_id=user, event_type="view", user_id=user, item_id="i", timestamp=at, received_at=at
    )
    return Acceptance(user, [event], True)


def is_of_b(record: OutgoingRecord) -> bool:
    return record.key == "b"


async def test_a_refused_message_is_rejected_alone_and_the_others_come_as_repeats() -> None:
    broker = Broker(is_of_b)
    publisher = OutcomePublisher(broker, CollectorRegistry())
    bad = Rejection("m", RejectionError(Code.MISSING_USER, "userId is required"), {"a": 1})
    outcomes = [message("a"), message("b"), Duplicate("d"), bad, message("c")]
    final = await publisher.publish(outcomes, ORIGIN)
    assert [type(each) for each in final] == [
        Acceptance,
        Rejection,
        Duplicate,
        Rejection,
        Acceptance,
    ]
    assert isinstance(final[1], Rejection) and final[3] is bad
    assert (final[1].message_id, final[1].error.code) == ("b", Code.EVENT_TOO_LARGE)
    assert broker.taken == [("a", False), ("a", True), ("c", True)]


async def test_a_letter_that_the_broker_refuses_costs_the_answer_nothing() -> None:
    broker = Broker(lambda record: isinstance(record.record, DeadLetter))
    publisher = OutcomePublisher(broker, CollectorRegistry())
    bad = Rejection("m", RejectionError(Code.MISSING_USER, "userId is required"), {"a": 1})
    final = await publisher.publish([bad, message("a")], ORIGIN)
    assert [type(each) for each in final] == [Rejection, Acceptance] and final[0] is bad
    assert broker.taken == [("a", True)]


async def test_a_broker_that_goes_after_a_refusal_gets_the_whole_request_again() -> None:
    publisher = OutcomePublisher(Broker(is_of_b, stays=False), CollectorRegistry())
    with pytest.raises(UnavailableError):
        await publisher.publish([message("a"), message("b"), message("c")], ORIGIN)


@pytest.mark.parametrize(
    "original",
    [
        {"properties": [1e15] * 60_000},
        {"note": '"' * 400_000},
        {"note": "\x01ÿ" * 60_000},
        ["x"] * 100_000,
        "x" * 2_000_000,
    ],
)
def test_the_letter_of_a_large_message_has_its_beginning(original: object) -> None:
    error = RejectionError(Code.EVENT_TOO_LARGE, "an event may have at most 32768 bytes")
    (outgoing,) = records_of([Rejection("m", error, original)], ORIGIN)
    letter = outgoing.record
    assert isinstance(letter, DeadLetter) and isinstance(letter.original, str)
    assert orjson.dumps(original).decode().startswith(letter.original)
    assert MAX_ORIGINAL_BYTES - 4 < len(letter.original.encode()) <= MAX_ORIGINAL_BYTES
    assert len(encode(letter)) < REQUEST_BYTES // 2 + 1_000


def test_an_event_that_grows_by_its_numbers_is_rejected_alone() -> None:
    producer = Acknowledging()
    large = track(messageId="large")
    body = orjson.dumps({"batch": [track(), large]})
    numbers = b"[" + b",".join([b"1e15"] * 60_000) + b"]"
    body = body.replace(b'"large"', b'"large","extra":' + numbers)
    with collecting(producer) as client:
        answer = client.post("/v1/batch", content=body, auth=AUTH).json()
    assert [each["status"] for each in answer["results"]] == ["accepted", "rejected"]
    assert answer["results"][1]["code"] == "event_too_large"
    (letter,) = producer.letters
    assert len(encode(letter)) < REQUEST_BYTES // 2
