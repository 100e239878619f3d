"""Records that can't be applied become dead letters; late events are counted."""

import pytest

from services.features.stream.screening import Limits, screen
from slipstream.broker.records import Batch, MalformedMessage, Message
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import Source
from slipstream.contracts.times import HOUR_MS

SOURCE = Source("interactions.v1", "t", 2)
NOW = 1_790_000_000_000
LIMITS = Limits(ahead_ms=HOUR_MS, late_ms=24 * HOUR_MS)


def message(offset: int, **changes: object) -> Message[Interaction]:
    known = {
        "event_id": "e",
        "event_type": "view",
        "user_id": "u",
        "timestamp": NOW,
        "received_at": NOW,
    }
    return Message(SOURCE, offset, "u", Interaction.model_validate(known | changes), "request-1")


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"timestamp": NOW + HOUR_MS + 1}, "timestamp_ahead", "timestamp"),
        ({"timestamp": NOW - 24 * HOUR_MS - 1}, "timestamp_late", "timestamp"),
        ({"position": 2**31}, "position_out_of_range", "position"),
    ],
)
def test_interactions_that_cannot_be_applied_become_letters_with_the_original(
    changes: dict, code: str, field: str
) -> None:
    bad = message(7, **changes)
    batch, letters, _ = screen(Batch([message(6), bad, message(8)], [], {SOURCE: 9}), NOW, LIMITS)
    assert [kept.offset for kept in batch.messages] == [6, 8]
    assert batch.next_offsets == {SOURCE: 9}
    assert [(letter.code, letter.field, letter.request_id) for letter in letters] == [
        (code, field, "request-1")
    ]
    assert Interaction.model_validate_json(letters[0].original) == bad.record
    assert letters[0].reason.startswith("interactions.v1:2:7: ")


def test_an_erasure_that_does_not_say_what_it_erases_becomes_a_letter() -> None:
    gone = CatalogRecord(entity="user", entity_id="u", deleted=True, timestamp=NOW)
    placed = gone.model_copy(update={"cut": {"interactions.v1": {}}})
    item = gone.model_copy(update={"entity": "item"})
    messages = [Message(SOURCE, n, "u", r, "") for n, r in enumerate((gone, placed, item))]
    batch, letters, _ = screen(Batch(messages, [], {}), NOW, LIMITS)
    assert [kept.record for kept in batch.messages] == [placed, item]
    assert [(letter.code, letter.field) for letter in letters] == [("erasure_without_cut", "cut")]


def test_malformed_bytes_become_a_letter_that_is_not_too_long() -> None:
    bad = MalformedMessage(SOURCE, 3, b"\xff" * 1_000_000, "value: not JSON", "")
    batch, letters, _ = screen(Batch([], [bad], {}), NOW, LIMITS)
    assert (batch.messages, batch.malformed) == ([], [])
    assert (letters[0].code, letters[0].received_at, len(letters[0].original)) == (
        "malformed_record",
        NOW,
        64 * 1024,
    )


def test_events_just_within_the_limit_and_other_records_pass() -> None:
    edge = message(1, timestamp=NOW + HOUR_MS, position=2**31 - 1)
    entry = Message(
        Source("catalog.v1", "t", 0),
        0,
        "k",
        CatalogRecord(entity="item", entity_id="a", timestamp=NOW * 2),
        "",
    )
    batch, letters, _ = screen(Batch([edge, entry], [], {}), NOW, LIMITS)
    assert (batch.messages, letters) == ([edge, entry], [])


def test_late_events_are_taken_for_a_day_and_counted_and_imported_history_at_any_age() -> None:
    ages = (0, 1, 1.5, 7, 24)
    late = [message(n, timestamp=NOW - int(age * HOUR_MS)) for n, age in enumerate(ages)]
    imported = message(9, timestamp=NOW - 9_000 * HOUR_MS, imported=True)
    batch, letters, counted = screen(Batch([*late, imported], [], {}), NOW, LIMITS)
    assert (batch.messages, letters) == ([*late, imported], [])
    assert counted == {1: 1, 6: 2}
