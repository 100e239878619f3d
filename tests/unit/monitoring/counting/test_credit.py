"""Responses are credited to the place of the slate that led to them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from services.monitoring.counting.credit import (
    BUCKET_MS,
    DIMENSIONS,
    SETTLING_MS,
    Period,
    PeriodCount,
    Rules,
)
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.stores.lake_reader import LakeUnavailableError
from tests.unit.monitoring.counting.shop_lake import (
    T0,
    Row,
    event,
    events_of,
    slate,
    slates_of,
)


def count(
    slates: Sequence[Row],
    events: Sequence[Row],
    became: Mapping[str, str] | None = None,
    past: pa.Table | None = None,
    designs: Iterable[tuple[str, int, int]] = (),
    until: int = BUCKET_MS,
) -> PeriodCount:
    found = PeriodCount(Period(T0, T0 + until), Rules(), events_of(events).to_batches())
    found.add_rows("designs", designs)
    found.add_rows("identities", (became or {}).items())
    found.add("slates", slates_of(slates).to_batches())
    found.add("past", () if past is None else past.to_batches())
    found.compute()
    return found


def places(found: PeriodCount) -> dict[str, tuple[str, int]]:
    """By event, the start of its slate's id and the position."""
    return {
        row["event_id"]: (row["placement"], row["position"])
        for row in found.table("credits").to_pylist()
    }


def sums(found: PeriodCount, name: str) -> dict[tuple[Any, ...], int]:
    """A sum by position, cohort and currency, where it is not 0."""
    return {
        (row["position"], row["cohort"], row["currency"]): row[name]
        for row in found.table("sums").to_pylist()
        if row[name]
    }


BASKET = {"placement": "basket"}


def test_a_response_counts_for_the_slate_that_it_names_else_for_the_newest_with_its_item() -> None:
    named = slate("u", 0, "ab", number=1)
    shown = [named, slate("u", 1_000, "xb", 2, **BASKET), slate("v", 2_000, "b", 3)]
    named_id = named["recommendation_id"]
    found = count(
        shown,
        [
            event("named", "click", "u", "b", 5_000, recommendation_id=named_id),
            event("newest", "view", "u", "b", 5_000),
            event("page", "click", "u~unproven", "a", 5_000),
            event("other item", "click", "u", "z", 5_000),
            event("other visitor", "click", "w", "b", 5_000, recommendation_id=named_id),
            event("before", "click", "u", "x", 500),
            event("search", "search", "u", "x", 5_000),
        ],
    )
    assert places(found) == {"named": ("home", 1), "newest": ("basket", 1), "page": ("home", 0)}


def test_a_slate_that_is_not_named_counts_for_half_an_hour_and_a_named_one_for_three_days() -> None:
    old = slate("u", -31 * 60_000, "a", 1)
    older = slate("u", -71 * HOUR_MS, "b", 2)
    oldest = slate("u", -73 * HOUR_MS, "c", 3)
    found = count(
        [old, older, oldest],
        [
            event("late", "click", "u", "a", 0),
            event("in time", "click", "u", "b", 0, recommendation_id=older["recommendation_id"]),
            event("too late", "click", "u", "c", 0, recommendation_id=oldest["recommendation_id"]),
        ],
    )
    assert list(places(found)) == ["in time"]


def test_a_place_is_clicked_and_put_in_the_cart_once_and_bought_as_often_as_it_is() -> None:
    found = count(
        [slate("u", 0, "a")],
        [
            event(f"{kind} {at}", kind, "u", "a", at, value=2.5, currency="eur")
            for kind in ("view", "click", "cart", "purchase")
            for at in (1_000, 2_000)
        ],
    )
    assert sums(found, "clicks") == {(0, "returning", ""): 1}
    assert sums(found, "carts") == {(0, "returning", ""): 1}
    assert sums(found, "purchases") == {(0, "returning", "EUR"): 2}
    assert sums(found, "revenue") == {(0, "returning", "EUR"): 5_000}
    again = count(
        [slate("u", 0, "a")], [event("z", "click", "u", "a", 3_000)], past=found.table("credits")
    )
    assert again.table("credits").num_rows == 0


def test_a_purchase_counts_for_the_click_before_it_for_days_and_a_refund_for_the_purchase() -> None:
    past = count([slate("u", 0, "ab")], [event("c", "click", "u", "b", 1_000)]).table("credits")
    month = 30 * DAY_MS
    moved = past.set_column(4, "at_ms", pa.array([T0 - month + 1_000]))
    later = [
        event("p", "purchase", "u", "b", 1_000, value=3, currency="USD"),
        event("r", "remove", "u", "b", 2_000, value=3, currency="USD", refunded=True),
        event("late", "purchase", "u", "b", 1_001, value=1e12),
        event("cart", "remove", "u", "b", 3_000, value=3),
    ]
    found = count([], later, past=moved)
    assert places(found) == {"p": ("home", 1), "r": ("home", 1), "late": ("", -1)}
    assert sums(found, "refunds") == {(1, "returning", "USD"): 3_000}
    assert sums(found, "revenue") == {(1, "returning", "USD"): 3_000}
    assert sums(found, "purchases") == {(1, "returning", "USD"): 1, (-1, "", ""): 1}


def test_who_logs_in_is_the_visitor_from_before() -> None:
    shown = [slate("anonymous", 0, "ab")]
    bought = [event("p", "purchase", "user", "b", 1_000)]
    assert places(count(shown, bought))["p"] == ("", -1)
    assert places(count(shown, bought, {"anonymous": "user"}))["p"] == ("home", 1)
    known = [event("p", "purchase", "user", "b", 1_000, anonymous_id="anonymous")]
    assert places(count(shown, known))["p"] == ("home", 1)


def test_a_place_counts_for_the_model_variant_and_revision_that_made_it() -> None:
    tested = slate("u", 1_000, "ab", experiment="e", variant="x")
    tested["items"][1]["source"] = "trending"
    designs = [("e", 0, 1), ("e", T0 - SETTLING_MS, 4), ("e", T0 + 2_000, 5)]
    found = count([tested], [], designs=designs)
    chosen = ("model_version", "variant", "revision", "source", "answers")
    assert [tuple(row[name] for name in chosen) for row in found.table("sums").to_pylist()] == [
        ("", "x", 4, "trending", 1),
        ("m1", "x", 4, "network", 1),
    ]
    settling = count([tested], [], designs=[("e", 0, 1), ("e", T0 + 999, 4)])
    assert {row["revision"] for row in settling.table("sums").to_pylist()} == {0}


def test_impressions_count_once_a_bucket_and_only_for_slates_of_that_visitor() -> None:
    shown = slate("u", 0, "ab", features="{}")
    named = {"recommendation_id": shown["recommendation_id"]}
    found = count(
        [shown],
        [
            event("1", "impression", "u", "b", 1_000, **named),
            event("2", "impression", "u", "b", 2_000, **named),
            event("3", "impression", "u", "b", BUCKET_MS + 1, **named),
            event("4", "impression", "v", "a", 1_000, **named),
            event("5", "impression", "u", "a", 1_000),
        ],
        until=2 * BUCKET_MS,
    )
    assert sums(found, "impressions") == {(1, "new", ""): 1}
    assert [row["start"] - T0 for row in found.table("sums").to_pylist() if row["impressions"]] == [
        0,
        BUCKET_MS,
    ]
    assert sums(found, "answers") == {(0, "new", ""): 1, (1, "new", ""): 1}


def test_repeated_rows_count_once_and_only_slates_that_are_shown() -> None:
    shown, click = slate("u", 0, "a"), event("c", "click", "u", "a", 1_000)
    ranked = slate("u", 10, "a", 1, purpose="ranked")
    once = count([shown, ranked], [click])
    assert count([shown, ranked, shown], [click, click]).table("sums").equals(once.table("sums"))
    assert sums(once, "answers") == {(0, "returning", ""): 1}


def test_a_visitor_who_acts_in_a_hundred_seconds_of_a_bucket_is_scripted() -> None:
    crawler = [slate("bot", 2_000 * n, "a", n) for n in range(100)]
    keen = [slate("keen", 2_000 * n, "a", n + 200) for n in range(99)]
    found = count([*crawler, *keen], [event("c", "click", "bot", "a", 201_000)])
    assert sums(found, "answers") == {(0, "returning", ""): 99, (0, "scripted", ""): 100}
    assert sums(found, "clicks") == {(0, "scripted", ""): 1}


def test_the_least_ten_hashes_of_visitors_tell_ten_apart() -> None:
    found = count([slate(f"u{n % 12}", n, "a", n) for n in range(24)], [])
    (row,) = found.table("sums").to_pylist()
    assert row["visitors"] == sorted(set(row["visitors"]))
    assert len(row["visitors"]) == 10
    assert set(found.table("sums").column_names) >= {"start", *DIMENSIONS, "currency"}


def test_what_prevents_rows_from_coming_is_raised_as_it_is() -> None:
    def unreadable() -> Iterator[pa.RecordBatch]:
        yield from events_of([event("c", "click", "u", "a", 0)]).to_batches()
        raise LakeUnavailableError("gone")

    with pytest.raises(LakeUnavailableError, match="gone"):
        PeriodCount(Period(T0, T0 + BUCKET_MS), Rules(), unreadable())


def test_the_erased_are_left_out_up_to_their_erasure() -> None:
    clicks = [event(f"c{at}", "click", "u", item, at) for at, item in ((1_000, "a"), (2_000, "b"))]
    found = count([slate("u", 0, "ab"), slate("v", 0, "ab", 1)], clicks)
    found.add_rows("erased", [("u", T0 + 1_000), ("x", T0)])
    assert [row["event_id"] for row in found.table("new_credits").to_pylist()] == ["c2000"]
