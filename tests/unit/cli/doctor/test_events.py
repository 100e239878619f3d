from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream_cli.doctor.events import EventFigures, Row, check_events, read_events
from slipstream_cli.doctor.findings import Finding, Limits, Weight
from tests.unit.stores.lake_rows import rows as lake_rows

NOW = 1_790_000_000_123


def row(number: int, **values: Any) -> Row:
    """An event of one of 50 visitors, a minute before the last."""
    return (
        values.get("event_type", "purchase" if number % 10 == 0 else "view"),
        values.get("user", f"u{number % 50}"),
        values.get("item", f"i{number % 7}"),
        values.get("at", NOW - 60_000 * number),
        values.get("received_at", NOW),
    )


def checked(rows: Iterable[Row]) -> dict[str, Finding]:
    figures = EventFigures()
    figures.count(rows)
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


def test_newest_events_are_counted_up_to_the_limits(tmp_path: Path) -> None:
    lake = Lake(LakeSettings(uri=str(tmp_path)), "shop")
    assert (read_events(lake, Limits()).sampled, read_events(lake, Limits()).total) == (0, 0)
    for number, (date, event_type) in enumerate((("2026-01-01", "old"), ("2026-01-02", "new"))):
        some = lake_rows(*(f"{event_type}-{n}" for n in range(5)), date=date, event_type=event_type)
        lake.append(INTERACTIONS, some, {Source("interactions.v1", "t", number): 4})
    every = read_events(lake, Limits())
    assert (every.types, every.among) == ({"old": 5, "new": 5}, "10 events")
    few = read_events(lake, Limits(events=3))
    assert (few.types, few.sampled, few.total) == ({"new": 3}, 3, 10)
    assert few.among == "the newest 3 events"
    # A limit of bytes or of time ends the reading with the batch in which it was reached.
    assert read_events(lake, Limits(event_bytes=1)).types == {"new": 5}
    assert read_events(lake, Limits(seconds=0)).types == {"new": 5}
