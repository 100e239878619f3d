"""Feature updates keep to their rate; dead letters are all sent, each counted under its code."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from services.features.metrics import FeaturesMetrics
from services.features.stream.online_effects import FeatureAnnouncer
from slipstream.broker.producer import OutgoingRecord
from slipstream.broker.records import Message
from slipstream.contracts.events import DeadLetter, Interaction
from slipstream.contracts.positions import Source
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import DEAD_LETTERS, FEATURE_UPDATES, INTERACTIONS
from slipstream.features import visitor
from slipstream.features.visitor import VisitorState

NOW = 1_790_000_000_000


class Producer:
    """A producer that notes what it is given."""

    def __init__(self) -> None:
        self.sent: list[OutgoingRecord] = []
        self.published: list[OutgoingRecord] = []

    def send_all(self, records: Sequence[OutgoingRecord]) -> None:
        self.sent += records

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        self.published += records


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


def visitors(count: int) -> dict[str, VisitorState]:
    def seen(user_id: str) -> VisitorState:
        event = Interaction(
            event_id=user_id,
            event_type="view",
            user_id=user_id,
            item_id="i",
            timestamp=NOW,
            received_at=NOW,
        )
        return visitor.fold_all(None, [event])

    return {f"u{number}": seen(f"u{number}") for number in range(count)}


def test_updates_above_the_rate_are_sampled_and_the_allowance_comes_back() -> None:
    producer, clock = Producer(), Clock()
    announcer = FeatureAnnouncer(producer, 10, FeaturesMetrics(CollectorRegistry()), clock=clock)
    announcer.send_updates(visitors(7), {}, NOW)
    assert sorted(key for _, key, _, _ in producer.sent) == [f"u{n}" for n in range(7)]
    announcer.send_updates(visitors(7), {}, NOW)
    assert len(producer.sent) == 10, "three were left of ten"
    announcer.send_updates(visitors(7), {}, NOW)
    assert len(producer.sent) == 10
    clock.now += 0.5
    announcer.send_updates(visitors(7), {}, NOW)
    assert len(producer.sent) == 15, "half a second gives five"
    clock.now += 60.0
    announcer.send_updates(visitors(50), {}, NOW)
    assert len(producer.sent) == 25, "a pause saves up no more than a second's worth"


def test_an_update_has_the_features_as_of_the_last_event_and_the_request_id() -> None:
    producer = Producer()
    announcer = FeatureAnnouncer(producer, 10, FeaturesMetrics(CollectorRegistry()))
    announcer.send_updates(visitors(2), {"u0": "request-1"}, NOW + 5)
    (topic, key, update, request_id), (_, _, _, other) = producer.sent
    assert (topic, key, request_id, other) == (FEATURE_UPDATES, "u0", "request-1", "")
    assert (update.view, update.entity_id, update.watermark) == ("visitor", "u0", NOW + 5)
    assert (update.features["views"], update.features["hours_since_last"]) == (1.0, 0.0)


def test_the_first_update_of_a_batch_says_what_was_applied_and_how_long_that_took() -> None:
    producer = Producer()
    announcer = FeatureAnnouncer(producer, 10, FeaturesMetrics(CollectorRegistry()))

    def message(partition: int, offset: int, age_ms: int) -> Message[Interaction]:
        received_at = now_ms() - age_ms
        record = Interaction(
            event_id="e", event_type="view", user_id="u", timestamp=NOW, received_at=received_at
        )
        return Message(Source(INTERACTIONS.name, "t", partition), offset, "u", record, "")

    taken = [message(0, 7, 20), message(1, 3, 500), message(0, 9, 10)]
    announcer.send_updates(visitors(2), {}, NOW, taken)
    (_, _, first, _), (_, _, second, _) = producer.sent
    assert (first.applied, second.applied, second.delay_ms) == ({"0": 10, "1": 4}, {}, None)
    assert 500 <= first.delay_ms < 60_000


def test_letters_are_published_with_their_request_ids_and_counted() -> None:
    producer, registry = Producer(), CollectorRegistry()
    letters = [
        DeadLetter(
            source="features",
            code=code,
            reason="r",
            original="{}",
            received_at=NOW,
            request_id=request_id,
        )
        for code, request_id in (("late", "r1"), ("late", ""), ("malformed", "r2"))
    ]
    announcer = FeatureAnnouncer(producer, 10, FeaturesMetrics(registry))
    announcer.send_letters([])
    announcer.send_letters(letters)
    assert {sent.topic for sent in producer.published} == {DEAD_LETTERS}
    assert [sent.record for sent in producer.published] == letters
    assert [sent.request_id for sent in producer.published] == ["r1", "", "r2"]
    counted = [
        registry.get_sample_value("slipstream_features_rejected_total", {"code": code})
        for code in ("late", "malformed")
    ]
    assert counted == [2, 1]
