from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.evaluation.data_checks import (
    COLUMNS,
    REFUSING,
    CatalogueFigures,
    EventFigures,
    check_catalogue,
    check_events,
    refusals,
)
from slipstream.evaluation.findings import Finding, Weight

NOW = 1_790_000_000_123


Row = tuple[str, str, str | None, int, int, float | None]


def row(number: int, **values: Any) -> Row:
    """An event of one of 50 visitors, a minute before the last."""
    return (
        values.get("event_type", "purchase" if number % 10 == 0 else "view"),
        values.get("user", f"u{number % 50}"),
        values.get("item", f"i{number % 7}"),
        values.get("at", NOW - 60_000 * number),
        values.get("received_at", NOW),
        values.get("value", 9.5),
    )


def checked(rows: Sequence[Row]) -> dict[str, Finding]:
    figures = EventFigures()
    kinds = [pa.string()] * 3 + [pa.int64()] * 2 + [pa.float64()]
    columns = list(zip(*rows, strict=True)) or [()] * 6
    figures.count(pa.table([*map(pa.array, columns, kinds)], list(COLUMNS)))
    figures.total = figures.sampled
    return {found.check: found for found in check_events(figures, NOW)}


def healthy(count: int = 400) -> list[Row]:
    return [row(number) for number in range(count)]


def test_events_of_a_healthy_shop_have_no_finding() -> None:
    assert checked(healthy()) == {}


def test_no_events() -> None:
    assert list(checked([])) == ["no_events"]


def test_no_purchases_counts_the_carts() -> None:
    rows = [row(n, event_type="cart" if n % 4 == 0 else "view") for n in range(400)]
    found = checked(rows)
    assert list(found) == ["no_purchases"]
    assert found["no_purchases"].figure == "no purchase among 400 events, but 100 carts"
    # Of few events nothing follows.
    assert checked(rows[:150]) == {}


def test_purchases_without_a_value_where_others_have_one() -> None:
    rows = [row(n, value=None if n % 20 == 0 else 9.5) for n in range(400)]
    found = checked(rows)
    assert list(found) == ["purchases_without_value"]
    assert found["purchases_without_value"].figure == "20 of 40 purchases (50 %) have no value"
    # A shop that sends no values at all knows that.
    assert checked([row(n, value=None) for n in range(400)]) == {}


def test_heavy_visitor_weighs_more_from_two_fifths_on() -> None:
    bot = [row(n, user="bot") for n in range(100)]
    assert checked(healthy(700) + bot)["heavy_visitor"].weight is Weight.NOTE
    found = checked(healthy(140) + bot)["heavy_visitor"]
    assert found.weight is Weight.WARNING
    assert found.figure == "visitor bot has 42 % of 240 events (100)"


def test_times_ahead_of_their_receipt() -> None:
    ahead = row(1, at=NOW + 2 * HOUR_MS)
    found = checked([*healthy(), ahead])["times_ahead"]
    assert found.weight is Weight.NOTE and "by up to 2 h" in found.figure
    assert checked([*healthy(), *[ahead] * 10])["times_ahead"].weight is Weight.WARNING
    # Clocks may differ by a minute.
    assert checked([*healthy(), row(1, at=NOW + 50_000)]) == {}


def test_types_without_a_meaning() -> None:
    odd = [row(n, event_type="kauf") for n in range(20)]
    found = checked(healthy() + odd)["unknown_types"]
    assert found.figure == "20 of 420 events (5 %) are of unknown types: kauf"


def test_silence_does_not_take_an_event_of_tomorrow_for_news() -> None:
    rows = [row(n, at=NOW - 3 * DAY_MS - 60_000 * n) for n in range(400)]
    rows.append(row(1, at=NOW + HOUR_MS))
    assert "happened 72 h ago" in checked(rows)["silence"].figure


def refused(rows: Sequence[Row]) -> list[str]:
    return [found.check for found in refusals(checked(rows).values())]


def test_what_a_model_can_not_be_judged_by_refuses_a_run() -> None:
    assert refused(healthy()) == []
    assert refused([]) == ["no_events"]
    bot = [row(n, user="bot") for n in range(100)]
    assert refused([*healthy(400)[:12], *bot]) == []
    assert refused([*healthy(400)[:10], *bot]) == ["heavy_visitor"]
    ahead = [row(n, at=NOW + HOUR_MS) for n in range(100)]
    assert refused([*healthy(101), *ahead]) == []
    assert refused([*healthy(100), *ahead]) == ["times_ahead"]
    told = checked([row(n, event_type="kauf") for n in range(400)])
    assert {"no_purchases", "unknown_types"} == set(told) and not set(told) & set(REFUSING)


def checked_items(**figures: Any) -> dict[str, Finding]:
    made = CatalogueFigures(items={"i0": {}}, event_items=40, **figures)
    return {found.check: found for found in check_catalogue(made)}


def test_catalogue_that_has_the_items_of_the_events_has_no_finding() -> None:
    assert checked_items() == {}


def test_empty_catalogue() -> None:
    assert [found.check for found in check_catalogue(CatalogueFigures())] == ["no_catalogue"]


def test_items_of_events_without_an_entry() -> None:
    found = checked_items(lacking=["a", "b", "c"], lacking_events=12)["items_without_entry"]
    assert found.weight is Weight.WARNING
    assert found.figure == (
        "3 of 40 items of the events (8 %) are not in the catalogue, with 12 events: a, b, c"
    )
    assert checked_items(lacking=["a"])["items_without_entry"].weight is Weight.NOTE
