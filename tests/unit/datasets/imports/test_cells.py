"""Cells as exports spell them. What is rendered in one of their forms reads back the same."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.datasets.imports import cells
from slipstream.datasets.imports.cells import CellError, TimeForm, read_amount, read_time, time_unit

AMOUNTS = st.integers(-(10**9), 10**9)


@given(AMOUNTS, st.sampled_from(["EUR {}", "{} EUR", "{}€", "€ {}", "{}", " {} "]))
def test_amounts_read_back_with_either_mark_and_any_currency(cents: int, around: str) -> None:
    number = cents / 100
    english, continental = f"{number:,.2f}", f"{number:,.2f}".translate(str.maketrans(".,", ",."))
    for digits in (english, continental, english.replace(",", "'"), f"{number:.2f}"):
        found = read_amount(around.format(digits))
        assert found.number == number
        assert found.currency == ("EUR" if around.strip() != "{}" else "")


@pytest.mark.parametrize(
    ("text", "mark", "number", "currency"),
    [
        ("1,299", ".", 1299, ""), ("1,299", ",", 1.299, ""), ("1.299", ".", 1.299, ""),
        ("12,90-", ".", -12.9, ""), ("(12.90)", ".", -12.9, ""), ("-$5", ".", -5, "USD"),
        ("$-5", ".", -5, "USD"), ("1 299,00 kr", ".", 1299, "KR"), ("0,125", ".", 0.125, ""),
        ("1.299.000", ".", 1_299_000, ""), ("CHF 5.-", ".", 5, "CHF"), ("1e-3", ".", 0.001, ""),
    ],
)  # fmt: skip
def test_amounts_of_exports(text: str, mark: str, number: float, currency: str) -> None:
    assert read_amount(text, mark) == (pytest.approx(number), currency)


@pytest.mark.parametrize("value", ["n/a", "12 or 13", "abc", "1,2,3.4.5", True, [], "nan", "1_000"])
def test_what_is_no_number_is_told(value: object) -> None:
    with pytest.raises(CellError, match="number"):
        read_amount(value)


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        ("1", True), (0, False), ("Ja", True), ("no", False), ("in stock", True),
        ("out_of_stock", False), ("https://schema.org/InStock", True), ("Ausverkauft", False),
        (True, True),
    ],
)  # fmt: skip
def test_flags(value: object, flag: bool) -> None:
    assert cells.read_flag(value) is flag


def test_a_flag_that_is_none_is_told() -> None:
    with pytest.raises(CellError, match="'maybe' is neither true nor false"):
        cells.read_flag("maybe")


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1)))
def test_lists_read_back_as_json_and_with_pipes(texts: list[str]) -> None:
    import json

    assert cells.read_list(json.dumps(texts)) == texts
    assert cells.read_list("|".join(texts)) == texts
    assert cells.read_list(texts) == texts


def test_a_path_of_categories_is_a_list_of_them() -> None:
    assert cells.read_list("Home > Women > Dresses") == ["Home", "Women", "Dresses"]
    assert cells.read_list("A->B") == ["A->B"]


def test_ids_are_texts() -> None:
    assert [cells.read_id(value) for value in (7, 7.0, " 007 ")] == ["7", "7", "007"]
    for wrong in (7.5, "x" * 300, "a\0b", True):
        with pytest.raises(CellError):
            cells.read_id(wrong)


@pytest.mark.parametrize("value", [None, "", "  ", "NULL", "n/a", float("nan"), "\\N"])
def test_missing_cells(value: object) -> None:
    assert cells.is_missing(value)


# From 1973 on, where the size distinguishes seconds from milliseconds.
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
    with pytest.raises(CellError, match="is not a time"):
        read_time(text)
