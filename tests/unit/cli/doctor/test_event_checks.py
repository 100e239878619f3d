from collections.abc import Iterable
from typing import Any

from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream_cli.doctor.event_checks import check_events
from slipstream_cli.doctor.event_figures import EventFigures, Row
from slipstream_cli.doctor.findings import Finding, Weight

NOW = 1_790_000_000_123


def row(number: int, **values: Any) -> Row:
    """An event of one of 50 visitors, each on a device of their own, a minute after the last."""
    user = values.get("user", f"u{number % 50}")
    return (
        values.get("event_type", "purchase" if number % 10 == 0 else "view"),
        user,
        values.get("device", f"device-of-{user}"),
        values.get("item", f"i{number % 7}"),
        values.get("at", NOW - 60_000 * number),
        values.get("received_at", NOW),
        values.get("source", "shop"),
        values.get("slate"),
    )


def checked(rows: Iterable[Row], slates: int = 0) -> dict[str, Finding]:
    figures = EventFigures()
    figures.count(rows)
    figures.total = figures.sampled
    return {found.check: found for found in check_events(figures, slates, NOW)}


def healthy(count: int = 400) -> list[Row]:
    return [row(number) for number in range(count)]


def test_events_of_a_healthy_shop_have_no_finding() -> None:
    assert checked(healthy(), slates=0) == {}


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


def test_one_anonymous_id_of_many_users() -> None:
    shared = [row(n, user=f"s{n}", device="all-the-same") for n in range(9)]
    found = checked(healthy() + shared)
    assert list(found) == ["shared_device"]
    assert "9 users send the same anonymousId all-the-same" in found["shared_device"].figure
    assert checked(healthy() + shared[:7]) == {}


def test_times_ahead_of_their_receipt() -> None:
    ahead = row(1, at=NOW + 2 * HOUR_MS)
    found = checked([*healthy(), ahead])["times_ahead"]
    assert found.weight is Weight.NOTE and "by up to 2 h" in found.figure
    assert checked([*healthy(), *[ahead] * 10])["times_ahead"].weight is Weight.WARNING
    # Clocks may differ by a minute.
    assert checked([*healthy(), row(1, at=NOW + 50_000)]) == {}


def test_dates_without_a_time() -> None:
    days = [row(n, at=(NOW // DAY_MS - n % 5) * DAY_MS) for n in range(400)]
    assert "days_for_times" in checked(days)


def test_types_without_a_meaning() -> None:
    odd = [row(n, event_type="kauf") for n in range(20)]
    found = checked(healthy() + odd)["unknown_types"]
    assert found.figure == "20 of 420 events (5 %) have types without a meaning: kauf"


def test_visitors_with_one_event() -> None:
    assert "single_events" in checked(row(n, user=f"once-{n}") for n in range(400))


def test_write_key_of_one_client() -> None:
    script = [row(n, user="tester", source="staging") for n in range(60)]
    found = checked(healthy(1_000) + script)
    assert list(found) == ["lonely_key"]
    assert found["lonely_key"].figure.startswith("all 60 events of the write key staging")
    assert checked(healthy(1_000) + script[:40]) == {}


def test_silence_does_not_take_an_event_of_tomorrow_for_news() -> None:
    rows = [row(n, at=NOW - 3 * DAY_MS - 60_000 * n) for n in range(400)]
    rows.append(row(1, at=NOW + HOUR_MS))
    assert "happened 72 h ago" in checked(rows)["silence"].figure


def test_clicks_that_name_no_list() -> None:
    rows = [row(n, event_type="click" if n % 4 else "purchase") for n in range(400)]
    assert list(checked(rows, slates=500)) == ["unnamed_slates"]
    assert checked([*rows, row(1, event_type="click", slate="r1")], slates=500) == {}
