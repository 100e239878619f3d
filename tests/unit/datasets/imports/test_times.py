"""Times as exports spell them. What is rendered in one of their forms reads back the same."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.datasets.imports.cells import CellError
from slipstream.datasets.imports.times import TimeForm, read_time, time_unit

# From 1973 on, where seconds and milliseconds are told apart by their size.
MOMENTS = st.integers(100_000_000, 4_000_000_000)


@given(MOMENTS, st.sampled_from([("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]))
def test_numbers_tell_their_unit(second: int, unit: tuple[str, int]) -> None:
    name, factor = unit
    for spelt in (second * factor, str(second * factor)):
        assert time_unit(float(spelt)) == name
        assert read_time(spelt, TimeForm(name)) == second * 1000


@given(MOMENTS, st.integers(-23, 23), st.integers(0, 999))
def test_iso_times_with_any_zone_are_the_same_moment(second: int, hours: int, milli: int) -> None:
    moment = datetime.fromtimestamp(second, UTC) + timedelta(milliseconds=milli)
    there = moment.astimezone(timezone(timedelta(hours=hours)))
    spellings = {
        moment.isoformat(),
        moment.isoformat().replace("+00:00", "Z"),
        there.isoformat(),
        f"{there:%Y-%m-%d %H:%M:%S.%f %z}",
        f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC",
        f"{moment:%d.%m.%Y %H:%M:%S.%f}",
    }
    assert {read_time(text) for text in spellings} == {second * 1000 + milli}
    assert read_time(there) == second * 1000 + milli


@given(MOMENTS)
def test_dates_with_slashes_are_read_as_their_column_is(second: int) -> None:
    moment = datetime.fromtimestamp(second, UTC)
    for pattern, day_first in (("%d/%m/%Y %H:%M:%S", True), ("%m/%d/%Y %H:%M:%S", False)):
        form = TimeForm(day_first=day_first)
        assert read_time(f"{moment:{pattern}}", form) == second * 1000
        assert read_time(f"{moment:{pattern}}", TimeForm(pattern=pattern)) == second * 1000


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("12/1/2010 8:26", "2010-12-01T08:26"), ("12/13/2010 8:26 PM", "2010-12-13T20:26"),
        ("2026-10-01 12:05:10 am", "2026-10-01T00:05:10"), ("1.2.2026 9:00", "2026-02-01T09:00"),
    ],
)  # fmt: skip
def test_times_of_day_as_people_write_them(text: str, same: str) -> None:
    assert read_time(text, TimeForm(day_first=False)) == read_time(same)


def test_a_zone_counts_for_times_without_one() -> None:
    berlin = TimeForm(zone=ZoneInfo("Europe/Berlin"))
    assert read_time("2026-07-01 12:00", berlin) == read_time("2026-07-01T10:00Z")
    assert read_time(date(2026, 7, 1), berlin) == read_time("2026-06-30T22:00Z")
    assert read_time("20261001") == read_time("2026-10-01")


@pytest.mark.parametrize(
    "text", ["yesterday", "1.2.3", "1/2/2026", "2026-13-01", "", "-5", "1e300"]
)
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(CellError, match="is no time"):
        read_time(text)
