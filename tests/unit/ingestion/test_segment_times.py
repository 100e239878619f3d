"""Times of events: lateness, forms, and clocks that are off."""

from typing import Any

import pytest

from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import Origin
from slipstream.ingress.fields import Code
from tests.unit.ingestion.payloads import (
    DAY,
    NOW,
    only_interaction,
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
