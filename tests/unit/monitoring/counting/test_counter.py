"""The counter arrives at the same outcomes in whatever order, and in whatever pieces, rows come."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.counting.counter import rest_s
from services.monitoring.counting.credit import BUCKET_MS, SUMS
from services.monitoring.people.repository import ErasureLedger, keep_visitors
from services.monitoring.quality import Bucket, Counts
from slipstream.contracts.events import ErasedVisitors
from slipstream.contracts.times import DAY_MS, HOUR_MS
from tests.unit.monitoring.counting.shop_lake import T0, Row, Shop, event, identity, slate

# Few visitors and items, and times on both sides of each limit: the half-hour of a slate, the next
# bucket, two hours, a day.
MINUTES = (0, 1, 29, 30, 31, 34, 119, 121)
A_DAY = (1439, 1441)
people = st.sampled_from("uw")
things = st.sampled_from("ab")


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Slates and events of two visitors, who may be one person; some events name slates."""
    # Each five minutes up to the newest row are counted, so few histories span a day.
    minutes = st.sampled_from(draw(st.sampled_from([MINUTES] * 5 + [MINUTES + A_DAY])))
    slates = [
        slate(user, 60_000 * minute, "".join(sorted(items)), number=number)
        for number, (user, minute, items) in enumerate(
            draw(
                st.lists(
                    st.tuples(people, minutes, st.sets(things, min_size=1)), min_size=1, max_size=3
                )
            )
        )
    ]
    events = []
    kinds = st.sampled_from(["view", "cart", "cart", "purchase", "impression", "remove"])
    given_events = st.lists(
        st.tuples(kinds, people, things, minutes, st.sampled_from([0, 500]), st.booleans()),
        max_size=7,
    )
    for number, (kind, user, item, minute, after, named) in enumerate(draw(given_events)):
        of = draw(st.sampled_from(slates))["recommendation_id"] if named else None
        known = {"value": 2.5, "refunded": True, "recommendation_id": of}
        events.append(event(f"e{number}", kind, user, item, 60_000 * minute + after, **known))
    return slates, events


@settings(max_examples=8, deadline=None)
@given(histories(), st.booleans(), st.randoms(use_true_random=False))
def test_rows_in_any_order_and_pieces_give_the_same_outcomes(
    tmp_path_factory: pytest.TempPathFactory,
    migrated: Path,
    history: tuple[list[Row], list[Row]],
    linked: bool,
    chance: random.Random,
) -> None:
    slates, events = history
    links = [identity("w", "u")] if linked else []
    once = Shop(migrated, tmp_path_factory.mktemp("once"))
    pieces = Shop(migrated, tmp_path_factory.mktemp("pieces"))
    for shop in (once, pieces):
        shop.now = max(row["timestamp"] for row in (*slates, *events)) + BUCKET_MS
        shop.lake.append((), (), *links)
    once.lake.append(slates, events)
    once.counter.step()
    rest: list[tuple[str, Row]] = [("s", row) for row in slates] + [("e", row) for row in events]
    chance.shuffle(rest)
    while rest:
        taken, rest = rest[: (size := chance.randint(1, 4))], rest[size:]
        of: dict[str, list[Row]] = {"s": [], "e": []}
        for kind, row in taken:
            of[kind].append(row)
        pieces.lake.append(of["s"], of["e"])
        pieces.counter.step()
    assert pieces.rows() == once.rows()
    assert {row[0]: row[5] for row in pieces.rows()[1] if row[5]} == plainly_credited(
        slates, events, {"w": "u"} if linked else {}
    )
    assert pieces.lists() == once.lists() == lists_of(slates, once.rows()[1])
    assert pieces.counter.step() == 0


KINDS = {"view": "click", "cart": "cart", "purchase": "purchase", "remove": "refund"}


def plainly_credited(
    slates: list[Row], events: list[Row], persons: dict[str, str]
) -> dict[str, str]:
    """The slate that each credited event counts for, by the rules of `counting.credit`."""

    def is_of(row: Row, other: Row) -> bool:
        one, two = row["user_id"], other["user_id"]
        return persons.get(one, one) == persons.get(two, two)

    def of_item(row: Row) -> list[Row]:
        item = row["item_id"]
        return [s for s in slates if is_of(s, row) and item in {i["item_id"] for i in s["items"]}]

    credit: dict[str, str] = {}
    rows = sorted(events, key=lambda row: (row["timestamp"], row["event_id"]))
    for kind, touching in (
        ("click", ()),
        ("cart", ("click",)),
        ("purchase", ("click", "cart")),
        ("refund", ("purchase",)),
    ):
        taken = set[tuple[str, str]]()
        for row in (row for row in rows if KINDS.get(row["event_type"]) == kind):
            at, item, named = row["timestamp"], row["item_id"], row["recommendation_id"]
            own = [s for s in of_item(row) if s["recommendation_id"] == named]
            touches = [
                (other["timestamp"], other["event_id"])
                for other in rows
                if KINDS.get(other["event_type"]) in touching
                and other["event_id"] in credit
                and is_of(other, row)
                and other["item_id"] == item
                and other["timestamp"] <= at
            ]
            recent = [
                (s["timestamp"], s["recommendation_id"])
                for s in of_item(row)
                if named is None and 0 <= at - s["timestamp"] <= HOUR_MS // 2
            ]
            if any(0 <= at - s["timestamp"] <= 3 * DAY_MS for s in own):
                slate_id = named
            elif touches:
                slate_id = credit[max(touches)[1]]
            elif recent:
                slate_id = max(recent)[1]
            else:
                continue
            if kind in ("click", "cart"):
                if (slate_id, item) in taken:
                    continue
                taken.add((slate_id, item))
            credit[row["event_id"]] = slate_id
    return credit


def lists_of(slates: list[Row], credits: list[Any]) -> dict[Bucket, Counts]:
    """The lists, and what followed from each by all credits."""
    counts: dict[Bucket, Counts] = {}
    for row in slates:
        items = {kind: set[str]() for kind in ("click", "cart", "purchase", "refund")}
        for credit in credits:
            if credit[5] == row["recommendation_id"]:
                items[credit[1]].add(credit[3])
        clicked, converted = len(items["click"]), len(items["cart"] | items["purchase"])
        bucket = Bucket(row["timestamp"] // BUCKET_MS * BUCKET_MS, "m1", row["answered_by"])
        of_list = Counts(1, 1, len(row["items"]), clicked > 0, clicked, converted > 0, converted)
        counts.setdefault(bucket, Counts()).add(of_list)
    return counts


def credited(shop: Shop) -> dict[str, tuple[str, int]]:
    return {row[0]: (row[1], row[11]) for row in shop.rows()[1]}


def test_a_late_click_changes_the_credit_of_a_later_purchase(
    migrated: Path, tmp_path: Path
) -> None:
    shop = Shop(migrated, tmp_path)
    shown = slate("u", 0, "ab")
    shop.lake.append([shown], [event("p", "purchase", "u", "b", 2 * HOUR_MS)])
    shop.counter.step()
    assert credited(shop) == {"p": ("purchase", -1)}
    click = event("c", "click", "u", "b", 60_000, recommendation_id=shown["recommendation_id"])
    shop.lake.append((), [click])
    assert shop.counter.step() == 2
    assert credited(shop) == {"c": ("click", 1), "p": ("purchase", 1)}


def test_a_late_click_changes_the_credit_of_a_later_cart(migrated: Path, tmp_path: Path) -> None:
    shop = Shop(migrated, tmp_path)
    shop.lake.append([slate("u", 0, "ab")], [event("t", "cart", "u", "b", HOUR_MS // 2 + 1)])
    shop.counter.step()
    assert credited(shop) == {"t": ("cart", -1)}
    assert all(row.sums[SUMS.index("carts")] == 0 for row in shop.table.rows(0, 2**50))
    shop.lake.append((), [event("c", "view", "u", "b", 500)])
    shop.counter.step()
    assert credited(shop) == {"c": ("click", 1), "t": ("cart", 1)}
    assert sum(row.sums[SUMS.index("carts")] for row in shop.table.rows(0, 2**50)) == 1


@pytest.mark.parametrize("interrupted", ["replace", "merge"])
def test_what_is_owed_outlives_a_count_that_ended_half_way(
    migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    shop = Shop(migrated, tmp_path)
    shown = slate("anonymous", 0, "ab")
    bought = event("p", "purchase", "user", "b", 2 * HOUR_MS)
    click = event("c", "click", "anonymous", "b", 60_000)
    early, late = ([], [click]) if interrupted == "replace" else ([click], [])
    links = [identity("anonymous", "user")]
    shop.lake.append([shown], [bought, *early], *(links if interrupted == "replace" else []))
    shop.counter.step()
    assert credited(shop)["p"] == ("purchase", -1)
    shop.lake.append((), late, *(links if interrupted == "merge" else []))

    def ended(*given: Any) -> None:
        whole(*given)
        raise KeyboardInterrupt

    whole = getattr(shop.table, interrupted)
    with monkeypatch.context() as patched:
        patched.setattr(shop.table, interrupted, ended)
        with pytest.raises(KeyboardInterrupt):
            shop.counter.step()
    shop.counter.step()
    assert credited(shop)["p"] == ("purchase", 1)
    assert shop.table.owed() == set()


def test_a_purchase_after_a_login_counts_for_the_visitor_who_clicked(
    migrated: Path, tmp_path: Path
) -> None:
    shop = Shop(migrated, tmp_path)
    shown = slate("anonymous", 0, "ab")
    click = event("c", "click", "anonymous", "b", 60_000)
    shop.lake.append([shown], [click, event("p", "purchase", "user", "b", 2 * HOUR_MS)])
    shop.counter.step()
    assert credited(shop)["p"] == ("purchase", -1)
    shop.lake.append((), (), identity("anonymous", "user"))
    shop.counter.step()
    assert credited(shop)["p"] == ("purchase", 1)


def test_a_purchase_counts_for_what_the_person_clicked_on_another_device(
    migrated: Path, tmp_path: Path
) -> None:
    shop = Shop(migrated, tmp_path)
    shop.lake.append((), (), identity("a-phone", "user"))
    shop.lake.append((), (), identity("b-tablet", "user"))
    shop.lake.append([slate("a-phone", 0, "ab")], [event("c", "click", "a-phone", "b", 60_000)])
    shop.counter.step()
    bought = event("p", "purchase", "b-tablet", "b", 2 * HOUR_MS)
    shop.lake.append((), [event("e", "click", "a-phone", "a", 2 * HOUR_MS), bought])
    shop.counter.step()
    assert credited(shop)["p"] == ("purchase", 1)


def test_a_list_counts_at_its_own_time_and_once_whatever_follows(
    migrated: Path, tmp_path: Path
) -> None:
    shop = Shop(migrated, tmp_path)
    shown = slate("u", 0, "ab")
    of = {"recommendation_id": shown["recommendation_id"]}
    shop.lake.append([shown, slate("v", 1, "", number=1, answered_by="none", model_version=None)])
    later = [
        event("c1", "click", "u", "a", 5 * BUCKET_MS, **of),
        event("c2", "click", "u", "b", 9 * BUCKET_MS, **of),
        event("p", "purchase", "u", "b", 2 * HOUR_MS),
    ]
    for each in reversed(later):
        shop.lake.append((), [each])
        shop.counter.step()
    assert shop.lists() == {
        Bucket(T0, "m1", "model"): Counts(1, 1, 2, 1, 2, 1, 1),
        Bucket(T0, "", "none"): Counts(slates=1),
    }
    shop.table.expire(T0 + 40 * DAY_MS, DAY_MS, 30 * DAY_MS)
    assert shop.lists() == {}


def test_what_followed_from_an_erased_visitor_s_lists_stays_counted(
    migrated: Path, tmp_path: Path
) -> None:
    shop = Shop(migrated, tmp_path)
    shop.lake.append([slate("u", 0, "ab")], [event("c", "click", "u", "a", 1_000)])
    shop.counter.step()
    told = ErasedVisitors(
        erasure_id="e", visitor_ids=["u"], cut={}, asked_at=T0 + 5_000, slates_until=T0 + 5_000
    )
    with shop.engine.begin() as db:
        keep_visitors(db, [told], T0 + 5_000)
    assert ErasureLedger(shop.engine, 0).delete_rows(["e"], T0 + 5_000) == 1
    shop.lake.append((), [event("other", "click", "w", "a", 2_000)])
    shop.counter.step()
    (counts,) = shop.lists().values()
    assert (counts.slates, counts.clicked_slates) == (1, 1)


def test_what_is_later_than_three_days_is_left_out_and_counted(
    migrated: Path, tmp_path: Path
) -> None:
    shop = Shop(migrated, tmp_path)
    shop.lake.append([slate("u", 0, "a")], [event("c", "click", "u", "a", 1_000)])
    shop.counter.step()
    before = shop.rows()
    shop.now += 4 * DAY_MS
    shop.lake.append((), [event("d", "click", "u", "a", 2_000)])
    assert shop.counter.step() == 0
    assert shop.table.progress("interactions").late == 1
    assert shop.rows() == before
    shop.lake.append((), [event("f", "click", "u", "a", 5 * DAY_MS)])
    shop.counter.step()
    assert shop.table.progress("interactions").late == 2


def test_hours_and_days_are_the_sums_of_their_buckets(migrated: Path, tmp_path: Path) -> None:
    shop = Shop(migrated, tmp_path)
    shown: Sequence[Row] = [slate(f"u{n}", n * BUCKET_MS, "ab") for n in range(30)]
    shop.lake.append(shown, [event("c", "click", "u3", "a", 3 * BUCKET_MS + 1)])
    shop.counter.step()
    sums = {
        length: sum(row[11] for row in shop.rows()[0] if row[0] == length)
        for length in (BUCKET_MS, HOUR_MS, DAY_MS)
    }
    assert sums == dict.fromkeys(sums, 60)
    (day,) = {row[1] for row in shop.rows()[0] if row[0] == DAY_MS} or [0]
    found = [row for row in shop.table.rows(day, day + DAY_MS) if row.group[5] == 0]
    assert [(row.sums[0], len(row.visitors)) for row in found] == [(30, 10)]


@pytest.mark.parametrize(
    ("took", "rest"), [(0.0, 15.0), (3.0, 15.0), (10.0, 40.0), (75.0, 300.0), (900.0, 300.0)]
)
def test_counting_takes_a_fifth_of_the_time_and_more_where_that_is_too_little(
    took: float, rest: float
) -> None:
    assert rest_s(took, 15.0) == pytest.approx(rest)
