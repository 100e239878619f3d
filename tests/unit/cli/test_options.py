"""Option types that commands share."""

import click
import pytest

from slipstream.contracts.times import DAY_MS, HOUR_MS, now_ms
from slipstream_cli.options import AgeOrTime, Duration


@pytest.mark.parametrize(
    ("text", "millis"),
    [("0", 0), ("90s", 90_000), ("30m", HOUR_MS // 2), ("24h", DAY_MS), ("7d", 7 * DAY_MS)],
)
def test_duration_is_in_milliseconds(text: str, millis: int) -> None:
    assert Duration().convert(text, None, None) == millis


@pytest.mark.parametrize("text", ["90", "soon", "-1h", "1.5h", ""])
def test_duration_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time span"):
        Duration().convert(text, None, None)


def test_moment_is_an_iso_time_in_utc() -> None:
    assert AgeOrTime().convert("2026-11-24T08:00", None, None) == 1_795_507_200_000


def test_moment_is_an_age_before_now() -> None:
    before = now_ms()
    assert before <= AgeOrTime().convert("2h", None, None) + 2 * HOUR_MS <= now_ms()


def test_moment_that_is_neither_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="neither an age such as"):
        AgeOrTime().convert("yesterday", None, None)
