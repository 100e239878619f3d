"""Times of events: lateness, forms, and clocks that are off."""

from typing import Any

import pytest

from services.ingestion.fields import Code
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import Origin, Rejection
from tests.unit.ingestion.payloads import (
    DAY,
    NOW,
    only_interaction,
    read,
    records,
    rejection,
    track,
)


def test_late_event_is_rejected_unless_it_is_imported() -> None:
    late, in_time = track(timestamp=NOW - DAY - 1), track(timestamp=NOW - DAY)
    assert rejection(late) == (Code.TIMESTAMP_TOO_OLD, "timestamp")
    assert only_interaction(in_time).imported is False
    imported = only_interaction(late, origin=Origin("shop", "request-1", NOW, imported=True))
    assert (imported.imported, imported.timestamp) == (True, NOW - DAY - 1)
    assert only_interaction(late, rules=IntakeRules(max_late_ms=None)).timestamp == NOW - DAY - 1
    assert rejection(late, rules=IntakeRules(max_late_ms=60_000))[0] is Code.TIMESTAMP_TOO_OLD


def test_lateness_is_judged_after_the_clock_is_corrected() -> None:
    assert (
        only_interaction(track(timestamp=NOW - 9 * DAY, sentAt=NOW - 9 * DAY + 1_000)).timestamp
        == NOW - 1_000
    )
    assert rejection(track(timestamp=NOW - 2 * DAY, sentAt=NOW))[0] is Code.TIMESTAMP_TOO_OLD


def test_late_traits_and_merges_are_taken_since_order_does_not_matter_to_them() -> None:
    assert (
        len(
            records(
                {
                    "type": "identify",
                    "userId": "ada",
                    "traits": {"a": 1},
                    "timestamp": NOW - 9 * DAY,
                }
            )
        )
        == 1
    )
    assert (
        len(
            records(
                {"type": "alias", "userId": "ada", "previousId": "b", "timestamp": NOW - 9 * DAY}
            )
        )
        == 1
    )


def test_timestamp_defaults_to_the_moment_of_receipt() -> None:
    assert only_interaction(track()).timestamp == NOW


@pytest.mark.parametrize(
    "timestamp",
    [NOW - 5_000, "2025-10-09T08:53:15Z", "2025-10-09T08:53:15", "2025-10-09T10:53:15.000+02:00"],
)
def test_timestamp_may_be_milliseconds_or_iso(timestamp: Any) -> None:
    assert only_interaction(track(timestamp=timestamp)).timestamp == NOW - 5_000


@pytest.mark.parametrize("offset", [-3 * DAY, -1, 0, 7 * DAY])
def test_clock_skew_is_corrected_from_sent_at(offset: int) -> None:
    """By any clock, the event happened two seconds before it was sent, and was received at once."""
    sent = NOW + offset
    assert only_interaction(track(timestamp=sent - 2_000, sentAt=sent)).timestamp == NOW - 2_000
    assert (
        only_interaction(track(timestamp=sent - 2_000), envelope={"sentAt": sent}).timestamp
        == NOW - 2_000
    )


def letter_of(message: Any, **arguments: Any) -> dict[str, Any]:
    """What the dead letter of a rejected message has."""
    outcome = read(message, **arguments)
    assert isinstance(outcome, Rejection), outcome
    kept: dict[str, Any] = outcome.original
    return kept


@pytest.mark.parametrize("field", ["timestamp", "originalTimestamp"])
def test_a_letter_has_the_time_by_our_clock(field: str) -> None:
    fast = NOW + 600_000
    message = track(userId=None, sentAt=fast, **{field: fast - 2_000})
    kept = letter_of(message)
    assert kept["timestamp"] == NOW - 2_000
    assert "sentAt" not in kept
    of_batch = track(userId=None, **{field: fast - 2_000})
    assert letter_of(of_batch, envelope={"sentAt": fast})["timestamp"] == NOW - 2_000
    assert letter_of(track(userId=None))["timestamp"] == NOW


@pytest.mark.parametrize("timestamp", ["yesterday", 1e300, True, -1])
def test_a_letter_has_an_unreadable_time_as_it_came(timestamp: Any) -> None:
    kept = letter_of(track(userId=None, timestamp=timestamp, sentAt=NOW))
    assert (kept["timestamp"], kept["sentAt"]) == (timestamp, NOW)


def test_a_letter_has_an_id_by_which_it_counts_once() -> None:
    assert letter_of(track(userId=None))["messageId"] == "m-1"
    outcome = read(track("", messageId=None))
    assert isinstance(outcome, Rejection)
    assert outcome.original["messageId"] == outcome.message_id
    first, second = (letter_of(track(properties=[], messageId=7.5))["messageId"] for _ in range(2))
    assert first == second == 7.5
