"""Arranged slates keep what each part promises."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.contracts.placements import PlacementPolicy
from slipstream.filters.conditions import Own
from slipstream.filters.evaluation import values_of
from slipstream.slates.arranging.arrangement import arrange
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.arranging.pool import Pool, Visitor
from tests.unit.slates.arranging import reference
from tests.unit.slates.arranging.shops import (
    Shop,
    arranged,
    factors,
    pool_of,
    rules,
    shares,
    shops,
)

lengths = st.integers(1, 8)
# Shares that make a slate anything but its ranking.
moving = st.fixed_dictionaries(
    {},
    optional={
        "diversity": shares,
        "calibration": shares,
        "calibrated_by": st.sampled_from(["brand", "colours", "seller"]),
        "exploration": shares,
        "fatigue": st.integers(0, 2),
    },
)
VISITOR = Visitor(["i1", "old", "i0"], [1.0, 3.0, 2.0], impressions={"i0": 1, "i3": 2, "gone": 9})
OTHERS = {"old": {"brand": "b", "colours": ["green"], "seller": 2}}


@settings(max_examples=150)
@given(shops, lengths, rules())
def test_rules_do_what_a_plain_reading_of_them_does(
    shop: Shop, n: int, rules: list[dict[str, Any]]
) -> None:
    for group_by in ("item_group_id", ""):
        arrangement = arranged(pool_of(shop), n, rules=rules, group_by=group_by)
        assert arrangement.order == reference.slate(shop, n, rules, group_by)


@given(shops, lengths)
def test_a_plain_policy_leaves_the_ranking(shop: Shop, n: int) -> None:
    pool = pool_of(shop)
    ranking = sorted(range(len(shop)), key=lambda place: (shop[place][2], -shop[place][1]))
    arrangement = arranged(pool, n, group_by="")
    assert arrangement.order == ranking[:n]
    assert arrangement.propensities == [1.0] * len(arrangement.order)
    assert not any(arrangement.explored)
    shares: dict[str, Any] = {"diversity": 0.0, "calibration": 0.0, "exploration": 0.0}
    assert arranged(pool, n, group_by="", **shares).order == ranking[:n]


@settings(max_examples=150)
@given(shops, lengths, rules(), moving, st.lists(st.booleans(), min_size=12, max_size=12))
def test_whatever_moves_a_slate_its_limits_hold(
    shop: Shop, n: int, rules: list[dict[str, Any]], moving: Mapping[str, Any], cold: list[bool]
) -> None:
    pool = pool_of(shop, cold=cold[: len(shop)], others=OTHERS)
    arrangement = arranged(pool, n, "seed", VISITOR, rules=rules, **moving)
    order = arrangement.order
    assert order == arranged(pool, n, "seed", VISITOR, rules=rules, **moving).order
    assert len(set(order)) == len(order) <= n
    assert set(order) <= set(range(len(shop)))
    for place, other in combinations(order, 2):
        assert not _values(shop, place, "item_group_id") & _values(shop, other, "item_group_id")

    place_of = {pool.item_id(place): place for place in range(len(shop))}
    traces = {trace.rule: trace for trace in arrangement.traces}
    pinned = {
        place_of[item_id]: rule
        for rule in rules if rule["action"] == "pin" for item_id in traces[rule["name"]].items
    }  # fmt: skip
    wanted = Counter(min(rule["position"], n) for rule in rules if rule["action"] == "pin")
    for place, rule in pinned.items():
        assert reference.meets(rule, f"i{place}", shop[place][0])
        position = order.index(place) + 1
        assert traces[rule["name"]].note or position == rule["position"]
        if len(order) == n and set(wanted.values()) == {1}:
            assert position == min(rule["position"], n)
    tiers = [shop[place][2] for place in order if place not in pinned]
    if not moving.get("fatigue"):
        assert tiers == sorted(tiers)
    for rule in rules:
        if rule["action"] == "cap":
            held = [place for place in order if reference.meets(rule, f"i{place}", shop[place][0])]
            counts = Counter(
                value for place in held for value in _values(shop, place, rule["attribute"])
            )
            past_it = {value for value, count in counts.items() if count > rule["most"]}
            for place in held:
                # Only pins come past a cap, and then nothing else has the value.
                assert place in pinned or not past_it & _values(shop, place, rule["attribute"])
            kept_out = [place_of[item_id] for item_id in traces[rule["name"]].items]
            assert not set(kept_out) & set(order)

    for names, place in zip(arrangement.touched, order, strict=True):
        assert all(pool.item_id(place) in traces[name].items for name in names)
    assert [trace.rule for trace in arrangement.traces] == [rule["name"] for rule in rules]


def _values(shop: Shop, place: int, name: str) -> set[str | float]:
    return values_of(shop[place][0], name)


@given(shops, lengths, rules(), factors, shares)
def test_the_same_boost_of_everything_changes_nothing(
    shop: Shop, n: int, rules: list[dict[str, Any]], factor: float, diversity: float
) -> None:
    boost = {"name": "all", "action": "boost", "factor": factor}
    before = arranged(pool_of(shop), n, rules=rules, diversity=diversity)
    after = arranged(pool_of(shop), n, rules=[boost, *rules], diversity=diversity)
    assert after.order == before.order


def test_pins_share_neither_an_item_nor_a_group() -> None:
    grouped = {"item_group_id": "g"}
    pool = pool_of([(grouped, 3.0, 0), (grouped, 2.0, 0), ({}, 1.0, 0)])
    rules = [{"name": f"pin {n}", "action": "pin", "position": 1} for n in range(3)]
    assert arranged(pool, 3, rules=rules).order == [0, 2]
    assert arranged(pool, 3, rules=rules, group_by="").order == [0, 1, 2]


def test_worn_out_items_come_when_nothing_else_is_left() -> None:
    pool = pool_of([({}, 3.0, 0), ({}, 2.0, 0), ({}, 1.0, 1)])
    visitor = Visitor(impressions={"i0": 3, "i1": 2, "unknown": 7})
    assert arranged(pool, 2, visitor=visitor, fatigue=3).order == [1, 2]
    assert arranged(pool, 3, visitor=visitor, fatigue=3).order == [1, 2, 0]
    assert arranged(pool, 3, visitor=visitor, fatigue=0).order == [0, 1, 2]


def test_rules_look_up_the_visitors_items_beside_the_pool() -> None:
    pool = pool_of(
        [({"brand": "a"}, 2.0, 0), ({"brand": "b"}, 1.0, 0)], others={"old": {"brand": "b"}}
    )
    boost = {"name": "known", "action": "boost", "factor": 4, "filter": "brand in seen"}
    visitor = Visitor(own={Own.SEEN: ["old"], Own.BOUGHT: []})
    assert arranged(pool, 2, visitor=visitor, rules=[boost]).order == [1, 0]


def test_an_empty_pool_gives_an_empty_slate() -> None:
    everything: dict[str, Any] = {
        "diversity": 1.0,
        "calibration": 1.0,
        "exploration": 1.0,
        "fatigue": 1,
    }
    pin = {"name": "pin", "action": "pin", "position": 1}
    arrangement = arranged(pool_of([], cold=[]), 5, visitor=VISITOR, rules=[pin], **everything)
    assert arrangement.order == []
    assert [need.rule for need in arrangement.needs] == ["pin"]


def test_scores_below_zero_are_boosted_upwards() -> None:
    pool = pool_of([({}, -1.0, 0), ({"brand": "a"}, -2.0, 0)])
    boost = {"name": "up", "action": "boost", "factor": 4, "filter": 'brand == "a"'}
    assert arranged(pool, 2, rules=[boost]).order == [1, 0]


def test_rules_count_by_time_and_context() -> None:
    boost = {"name": "up", "action": "boost", "factor": 4, "filter": 'brand == "a"'}
    policy = CompiledPolicy.of(
        PlacementPolicy.model_validate(
            {"rules": [{**boost, "when": 'country == "se"', "starts_at": 10, "ends_at": 20}]}
        )
    )
    pool: Pool = pool_of([({}, 2.0, 0), ({"brand": "a"}, 1.0, 0)])

    def order(now_ms: int, context: dict[str, Any]) -> list[int]:
        return arrange(pool, 2, policy, Visitor(), now_ms, context, "").order

    assert order(10, {"country": "se"}) == [1, 0]
    assert order(9, {"country": "se"}) == order(20, {"country": "se"}) == [0, 1]
    assert order(15, {"country": "no"}) == order(15, {}) == [0, 1]
