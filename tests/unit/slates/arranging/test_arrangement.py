"""Arranged slates keep what each part promises."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise, permutations
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipstream.contracts.placements import PlacementPolicy
from slipstream.filters.conditions import Own
from slipstream.filters.evaluation import values_of
from slipstream.slates.arranging.arrangement import arrange
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.arranging.pool import Pool, Visitor
from tests.unit.slates.arranging import reference
from tests.unit.slates.arranging.shops import (
    Attributes,
    Shop,
    arranged,
    attributes,
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
@example(
    [({"seller": 3.5}, 2.0, 0), ({"seller": 3.5}, 1.0, 0), ({"seller": 1}, 0.5, 0)],
    2,
    [{"action": "cap", "attribute": "seller", "most": 1, "filter": "", "name": "one each"}],
)
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


def test_a_calibrated_slate_has_the_shares_of_the_history() -> None:
    shop = [({"brand": "a"}, 100.0 - n, 0) for n in range(20)]
    shop += [({"brand": "b"}, 50.0 - n, 0) for n in range(20)]
    shop += [({"brand": "c"}, 20.0 - n, 0) for n in range(5)]
    pool = pool_of(shop, others={"x": {"brand": "a"}, "y": {"brand": "b"}, "z": {}})
    visitor = Visitor(["x", "y", "z", "unknown"], [7.0, 3.0, 5.0, 5.0])

    def brands(calibration: float) -> Counter[str]:
        slate = arranged(
            pool, 10, visitor=visitor, calibration=calibration, calibrated_by="brand"
        ).order
        return Counter(shop[place][0]["brand"] for place in slate)

    assert brands(0.0) == {"a": 10}
    assert brands(1.0) == {"a": 7, "b": 3}
    assert arranged(pool, 10, calibration=1.0).order == list(range(10))  # no history


def test_older_events_count_less() -> None:
    pool = pool_of(
        [({"brand": "a"}, 2.0, 0), ({"brand": "b"}, 1.0, 0)],
        others={"x": {"brand": "a"}, "y": {"brand": "b"}},
    )
    ages = Visitor(["y"] * 30 + ["x"] * 30, [1.0] * 60)
    calibrated: dict[str, Any] = {"calibration": 1.0, "calibrated_by": "brand"}
    assert arranged(pool, 1, visitor=ages, **calibrated).order == [1]
    ages = Visitor(["x"] * 30 + ["y"] * 30, [1.0] * 60)
    assert arranged(pool, 1, visitor=ages, **calibrated).order == [0]


_SMOOTHING = 0.01
histories = st.lists(st.tuples(attributes, st.sampled_from([0.0, 1.0, 3.0])), max_size=4)


def colours(item: Attributes) -> dict[str, float]:
    """The part that each colour is of an item's."""
    its = item.get("colours", [])
    return {colour: 1 / len(its) for colour in its}


def divergence(wanted: Mapping[str, float], slate: Sequence[Attributes]) -> float:
    """KL(wanted || slate's shares), the latter smoothed by the former (Steck 2018)."""
    given_shares: dict[str, float] = defaultdict(float)
    for item in slate:
        for colour, part in colours(item).items():
            given_shares[colour] += part / len(slate)
    return sum(
        share * math.log(share / ((1 - _SMOOTHING) * given_shares[colour] + _SMOOTHING * share))
        for colour, share in wanted.items()
    )


@settings(max_examples=100)
@given(shops, histories, shares, shares)
def test_each_place_gets_the_best_by_the_formulas(
    shop: Shop,
    history: Sequence[tuple[Attributes, float]],
    diversity: float,
    calibration: float,
) -> None:
    past = {f"h{n}": item for n, (item, _) in enumerate(history)}
    visitor = Visitor(list(past), [weight for _, weight in history])
    weights: dict[str, float] = defaultdict(float)
    for age, (item, weight) in enumerate(history):
        for colour, part in colours(item).items():
            weights[colour] += weight * part * 0.5 ** (age / 20)
    total = sum(weights.values())
    wanted = {colour: weight / total for colour, weight in weights.items() if weight}
    shop = [(item, score, 0) for item, score, _ in shop]
    order = arranged(
        pool_of(shop, others=past),
        5,
        visitor=visitor,
        group_by="",
        diversity=diversity,
        calibration=calibration,
        calibrated_by="colours",
    ).order
    alike = likeness_of_pairs(shop)
    ranking = sorted(range(len(shop)), key=lambda place: -shop[place][1])
    for size in range(len(order)):
        slate = order[:size]

        def value(place: int, slate: Sequence[int] = slate) -> float:
            fitting = 1 - ranking.index(place) / len(ranking)
            if wanted:
                far = divergence(wanted, [shop[each][0] for each in [*slate, place]])
                fitting = (1 - calibration) * fitting - calibration * far / -math.log(_SMOOTHING)
            closest = max((alike[place, other] for other in slate), default=0.0)
            return (1 - diversity) * fitting - diversity * closest

        best = max(value(place) for place in range(len(shop)) if place not in slate)
        assert value(order[size]) >= best - 1e-6
    assert len(order) == min(5, len(shop))


@given(shops, st.tuples(shares, shares))
def test_more_diversity_makes_a_pair_no_more_alike(shop: Shop, both: tuple[float, float]) -> None:
    alike = [
        _likeness(shop, arranged(pool_of(shop), 2, diversity=diversity, group_by="").order)
        for diversity in sorted(both)
        if len({tier for _, _, tier in shop}) == 1
    ]
    assert all(more <= less + 1e-12 for less, more in pairwise(alike))


def test_more_diversity_makes_longer_slates_less_alike() -> None:
    generator = np.random.default_rng(16)
    means = []
    shops = [_random_shop(generator, 60) for _ in range(20)]
    for diversity in (0.0, 0.2, 0.5, 0.8, 1.0):
        slates = [arranged(pool_of(shop), 8, diversity=diversity).order for shop in shops]
        pairs = zip(shops, slates, strict=True)
        means.append(np.mean([_likeness(shop, slate) for shop, slate in pairs]))
    assert all(more < less for less, more in pairwise(means))
    assert means[-1] < means[0] / 2


def test_vectors_tell_items_apart_that_share_no_category() -> None:
    pool = pool_of([({}, score, 0) for score in (4.0, 3.0, 2.0, 1.0)])
    vectors = np.array([[1, 0], [2, 0.1], [0, 3], [0, 0]], np.float32)
    assert arranged(pool._replace(vectors=vectors), 3, diversity=0.7).order == [0, 2, 3]
    assert arranged(pool, 3, diversity=0.7).order == [0, 1, 2]


def _random_shop(generator: np.random.Generator, size: int) -> Shop:
    return [
        (
            {
                "brand": "abcdefgh"[generator.integers(8)],
                "colours": list({"rgbwk"[n] for n in generator.integers(0, 5, 2)}),
            },
            float(generator.random()),
            0,
        )
        for _ in range(size)
    ]


def _likeness(shop: Shop, order: Sequence[int]) -> float:
    """The mean likeness of a slate's pairs."""
    alike = likeness_of_pairs(shop)
    pairs = list(combinations(order, 2))
    return sum(alike[pair] for pair in pairs) / max(1, len(pairs))


def likeness_of_pairs(shop: Shop) -> dict[tuple[int, int], float]:
    """The texts that two items share by all of both, weighted by rarity."""
    names = ("brand", "colours", "item_group_id")
    sets = [
        {(name, value) for name in names for value in values_of(item, name)} for item, _, _ in shop
    ]
    counts = Counter(value for each in sets for value in each)

    def weight(values: set[tuple[str, str | float]]) -> float:
        return sum(math.log(len(shop) / counts[each]) for each in values if counts[each] > 1)

    return {
        (one, other): weight(sets[one] & sets[other]) / (weight(sets[one] | sets[other]) or 1)
        for one, other in permutations(range(len(shop)), 2)
    }
