"""Sums by visitor, counted in pieces, are those of all slates and credits at once."""

import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from services.monitoring.counting.credit import NAMED_MS, SETTLING_MS
from services.monitoring.counting.tables import credits, experiment_currencies, visitor_sums
from services.monitoring.people.repository import ErasureLedger, keep_visitors
from slipstream.contracts.events import ErasedVisitors
from slipstream.contracts.rest import AuditRecord
from slipstream.contracts.times import DAY_MS, HOUR_MS
from tests.unit.monitoring.control.test_experiments_repository import design, table_with_placements
from tests.unit.monitoring.counting.shop_lake import NOW, T0, Row, Shop, event, slate

# Between the times of the slates.
CHANGED = T0 + 75 * 60_000
MINUTE_MS = 60_000
IN = {"experiment": "calmer", "variant": "a"}
KEY = ("calmer", 1, "u", "a")


def put(shop: Shop, name: str, at: int, **changes: Any) -> None:
    audit = AuditRecord(at=at, principal="ada", action="put_experiment", subject=name)
    table_with_placements(shop.engine).put(name, design(**changes), audit)


def prepared(migrated: Path, folder: Path) -> Shop:
    """A shop with two experiments; the design of `calmer` changes once."""
    shop = Shop(migrated, folder)
    put(shop, "calmer", T0 - 1_000)
    put(shop, "calmer", CHANGED, salt="again")
    put(shop, "other", T0 - 1_000, placements=["cart"])
    return shop


def one(rows: Iterable[Row], name: str, value: Any) -> list[Row]:
    return [row for row in rows if row[name] == value]


def expected(slates: list[Row], credited: list[Row]) -> dict[tuple[str, int, str, str], Row]:
    """The sums by their definitions."""
    groups = defaultdict[tuple[str, int, str, str], list[Row]](list)
    for each in slates:
        since_change = each["timestamp"] - CHANGED
        is_calmer = each["experiment"] == "calmer"
        if each["experiment"] and not (is_calmer and 0 <= since_change < SETTLING_MS):
            revision = 1 + (is_calmer and since_change >= 0)
            groups[each["experiment"], revision, each["user_id"], each["variant"]].append(each)
    found = {}
    for key, own in groups.items():
        ids = {each["recommendation_id"] for each in own}
        led_to = [row for row in credited if row["recommendation_id"] in ids]
        clicks, bought = one(led_to, "kind", "click"), one(led_to, "kind", "purchase")
        first_at = min(each["timestamp"] for each in own)
        before = [
            row["kind"] == "click"
            for row in one(credited, "user_id", key[2])
            if row["experiment"] != key[0] and row["at_ms"] < first_at and row["kind"] != "refund"
        ]
        latencies = [round(10 * each["latency_ms"]) for each in own]
        found[key] = {
            **dict(zip(("experiment", "revision", "user_id", "variant"), key, strict=True)),
            "first_at": first_at,
            "last_at": max(each["timestamp"] for each in own),
            "slates": len(own),
            "empty": sum(not each["items"] for each in own),
            "failed": sum(each["substituted"] != "" for each in own),
            "clicked_slates": len({row["recommendation_id"] for row in clicks}),
            "clicked_items": len(clicks),
            "converted_slates": len(
                {
                    row["recommendation_id"]
                    for row in led_to
                    if row["kind"] not in ("click", "refund")
                }
            ),
            "purchases": len({(row["recommendation_id"], row["item_id"]) for row in bought}),
            "revenue": sum(row["value"] or 0 for row in bought),
            "timed": sum(each > 0 for each in latencies),
            "latency": sum(latencies),
            "before_clicked": sum(before),
            "before_converted": len(before) - sum(before),
            "linked": None,
        }
    return found


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Row]]:
    """Slates in two experiments or none, and events, some of which name slates."""
    people, minutes = st.sampled_from("uv"), st.integers(0, 150)
    slates = []
    for number in range(draw(st.integers(1, 7))):
        items = "".join(sorted(draw(st.sets(st.sampled_from("abc")))))
        experiment = draw(st.sampled_from(["", "calmer", "other"]))
        substituted = draw(st.sampled_from(["", "", "failed"])) if experiment else ""
        variants = ["a", "b"] if experiment else ["champion"]
        slates.append(
            slate(
                draw(people),
                MINUTE_MS * draw(minutes),
                items,
                number,
                experiment=experiment,
                variant=draw(st.sampled_from(variants)),
                substituted=substituted,
                latency_ms=draw(st.sampled_from([0.0, 1.2, 7.0])),
            )
        )
    events = []
    kinds = st.sampled_from(["view", "cart", "purchase", "remove"])
    for number in range(draw(st.integers(0, 12))):
        of = draw(st.sampled_from(slates))["recommendation_id"] if draw(st.booleans()) else None
        at, item = MINUTE_MS * draw(minutes) + 500, draw(st.sampled_from("abc"))
        known = {"value": 2.5, "refunded": True, "recommendation_id": of}
        events.append(event(f"e{number}", draw(kinds), draw(people), item, at, **known))
    return [("s", row) for row in slates] + [("e", row) for row in events]


@settings(max_examples=4, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_sums_are_the_same_in_any_order_and_pieces(
    tmp_path_factory: pytest.TempPathFactory,
    migrated: Path,
    rows: list[tuple[str, Row]],
    chance: random.Random,
) -> None:
    shop = prepared(migrated, tmp_path_factory.mktemp("pieces"))
    # A producer that is not sure sends a slate again.
    rest = rows + [each for each in rows if each[0] == "s" and chance.random() < 0.3]
    chance.shuffle(rest)
    while rest:
        taken, rest = rest[: (size := chance.randint(1, 14))], rest[size:]
        of: dict[str, list[Row]] = {"s": [], "e": []}
        for kind, row in taken:
            of[kind].append(row)
        shop.lake.append(of["s"], of["e"])
        shop.counter.step()
    with shop.engine.connect() as db:
        credited = [dict(row._mapping) for row in db.execute(select(credits))]
        paid = {tuple(row[:3]): row[3] for row in db.execute(select(experiment_currencies))}
    assert shop.sums() == expected([row for kind, row in rows if kind == "s"], credited)
    counts: dict[tuple[str, int, str], int] = defaultdict(int)
    for row in one(credited, "kind", "purchase"):
        if row["revision"]:
            counts[row["experiment"], row["revision"], row["currency"]] += 1
    assert {key: count for key, count in paid.items() if count} == counts


@pytest.fixture
def shop(migrated: Path, tmp_path: Path) -> Shop:
    return prepared(migrated, tmp_path)


def click(shown: Row, item: str = "a", at: int = 1_000) -> Row:
    number = shown["recommendation_id"]
    after = shown["timestamp"] - T0 + at
    return event(
        f"c{number}{item}{at}", "click", shown["user_id"], item, after, recommendation_id=number
    )


def test_a_count_that_ended_half_way_adds_nothing_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [slate("u", minute * 6 * MINUTE_MS, "a", **IN) for minute in range(3)]
    shop.lake.append(shown, [click(each) for each in shown])

    def ended(*_given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shop.table, "advance", ended)
        with pytest.raises(KeyboardInterrupt):
            shop.counter.step()
    before = shop.sums()
    assert (before[KEY]["slates"], before[KEY]["clicked_slates"]) == (3, 3)
    shop.counter.step()
    assert shop.sums() == before


def test_the_sum_of_clicks_outlives_the_clicks(shop: Shop) -> None:
    of_other = {"experiment": "other", "variant": "a"}
    first = slate("u", 0, "a", **of_other)
    shop.lake.append([first], [click(first)])
    shop.counter.step()
    shop.now += 40 * DAY_MS
    shop.table.expire(shop.now, 30 * DAY_MS, 90 * DAY_MS)
    assert shop.rows()[1] == []
    second = slate("u", 40 * DAY_MS, "a", **of_other)
    shop.lake.append([second], [click(second)])
    shop.counter.step()
    sums = shop.sums()["other", 1, "u", "a"]
    assert (sums["slates"], sums["clicked_slates"]) == (2, 2)


def test_a_response_to_a_slate_whose_sums_are_gone_makes_none(shop: Shop) -> None:
    shown = slate("u", 0, "a", **IN)
    shop.lake.append([shown])
    shop.counter.step()
    with shop.engine.begin() as db:
        db.execute(visitor_sums.delete())
    shop.lake.append((), [click(shown)])
    shop.counter.step()
    assert shop.sums() == {}


def test_sums_go_when_their_experiment_has_ended_for_long(shop: Shop) -> None:
    shop.lake.append([slate("u", 0, "a", **IN)])
    shop.counter.step()
    shop.table.expire(NOW, DAY_MS, NOW - CHANGED - HOUR_MS)
    assert shop.sums()
    put(shop, "calmer", CHANGED + 9, salt="again", state="stopped")
    shop.table.expire(NOW, DAY_MS, NOW - CHANGED - 9)
    assert shop.sums()
    shop.table.expire(NOW, DAY_MS, NOW - CHANGED - 10)
    assert shop.sums() == {}


def test_sums_are_exported_and_erased_with_their_visitor(shop: Shop) -> None:
    shop.lake.append([slate("u", 0, "a", **IN), slate("w", 0, "a", 1, **IN)])
    shop.counter.step()
    rows = [row for kind, row in shop.table.rows_of(["u", "x"]) if kind == "experiment"]
    assert rows == [shop.sums()[KEY]]
    told = ErasedVisitors(
        erasure_id="x", visitor_ids=["u"], asked_at=NOW, slates_until=NOW, last=True, cut={}
    )
    with shop.engine.begin() as db:
        keep_visitors(db, [told], NOW)
    assert ErasureLedger(shop.engine, 0).delete_rows(["x"], NOW) == 1
    assert {key[2] for key in shop.sums()} == {"w"}
    # The lake still has a slate that came late.
    shop.lake.append([slate("u", 1_000, "a", **IN), slate("w", 1_000, "a", 1, **IN)])
    shop.counter.step()
    assert {(key[2], row["slates"]) for key, row in shop.sums().items()} == {("w", 2)}


def test_what_is_too_late_to_be_counted_changes_no_sums(shop: Shop) -> None:
    shown = slate("u", 0, "a", **IN)
    shop.lake.append([shown])
    shop.counter.step()
    shop.now = T0 + NAMED_MS + HOUR_MS
    shop.lake.append([slate("u", 1_000, "a", **IN)], [click(shown)])
    shop.counter.step()
    assert (shop.sums()[KEY]["slates"], shop.sums()[KEY]["clicked_slates"]) == (1, 0)
