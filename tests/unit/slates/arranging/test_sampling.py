"""Sampled orders have the probabilities that they say, and obey every rule."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.slates.arranging.sampling import Frame, ItemFrame, is_sampled, sampled
from tests.unit.slates.arranging import shops
from tests.unit.slates.arranging.shops import Shop, arranged, pool_of

_SEEDS = 4_000


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Up to six candidates of some tiers, and up to four places, of which some are pinned."""
    tiers = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    ranked = list(range(sum(tiers)))
    wanted = draw(st.lists(st.booleans(), min_size=1, max_size=4))
    pinned = [100 + place if pin else -1 for place, pin in enumerate(wanted)]
    of_rank = np.repeat(range(len(tiers)), tiers).tolist()
    fixed = [row for row in pinned if row >= 0]
    return Frame.of([*fixed, *ranked], [*([0] * len(fixed)), *of_rank], pinned)


def lists_of(frame: ItemFrame) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every list that may be drawn, with its probability."""
    columns = {item_id: at for at, item_id in enumerate(_ids(frame))}

    def further(shown: tuple[str, ...], share: float) -> Iterator[tuple[tuple[str, ...], float]]:
        if len(shown) == len(frame.slots):
            yield shown, share
            return
        odds = frame.conditional(shown, columns.__getitem__, len(columns))[len(shown)]
        for item_id, column in columns.items():
            if odds[column]:
                yield from further((*shown, item_id), share * odds[column])

    yield from further((), 1.0)


def _ids(frame: ItemFrame) -> list[str]:
    return list(dict.fromkeys([*filter(None, frame.slots), *frame.ranked]))


@given(frames())
def test_marginal_probabilities_are_those_of_all_lists(frame: Frame) -> None:
    of_items = frame.of_ids(str)
    columns = {item_id: at for at, item_id in enumerate(_ids(of_items))}
    odds = of_items.marginal(columns.__getitem__, len(columns))
    assert odds.sum(axis=1) == pytest.approx(np.ones(len(frame.slots)))
    summed, total = np.zeros_like(odds), 0.0
    for shown, share in lists_of(of_items):
        total += share
        for place, item_id in enumerate(shown):
            summed[place, columns[item_id]] += share
    assert total == pytest.approx(1)
    assert odds == pytest.approx(summed, abs=1e-12)


@given(frames(), st.text(max_size=4))
def test_a_list_is_told_with_the_probabilities_that_it_is_drawn_with(
    frame: Frame, seed: str
) -> None:
    rows, propensities = sampled(frame, seed)
    assert (rows, propensities) == sampled(frame, seed)
    of_items, shown = frame.of_ids(str), [str(row) for row in rows]
    columns = {item_id: at for at, item_id in enumerate(_ids(of_items))}
    odds = of_items.conditional(shown, columns.__getitem__, len(columns))
    assert odds.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    assert [odds[k, columns[each]] for k, each in enumerate(shown)] == pytest.approx(propensities)
    assert len(set(rows)) == len(rows) == min(len(frame.slots), len(_ids(of_items)))


SHOP: Shop = [
    ({"brand": "a"}, 9.0, 0),
    ({"brand": "a", "item_group_id": "g"}, 8.0, 0),
    ({"brand": "b"}, 7.0, 0),
    ({"brand": "c", "item_group_id": "g"}, 6.0, 0),
    ({"brand": "d"}, 5.0, 0),
    ({"brand": "e"}, 9.0, 1),
]
CAP = {"name": "cap", "action": "cap", "attribute": "brand", "most": 1}
PIN = {"name": "pin", "action": "pin", "position": 2, "filter": 'brand == "b"'}


@pytest.mark.parametrize("policy", [{}, {"rules": [CAP, PIN]}, {"rules": [PIN], "diversity": 0.4}])
def test_lists_come_as_often_as_their_propensities_say(policy: dict[str, Any]) -> None:
    pool, seen = pool_of(SHOP), Counter[tuple[int, ...]]()
    probability: dict[tuple[int, ...], float] = {}
    for seed in range(_SEEDS):
        slate = arranged(pool, 3, f"{seed}", samples=True, **policy)
        order = tuple(slate.order)
        seen[order] += 1
        share = probability.setdefault(order, math.prod(slate.propensities))
        assert share == pytest.approx(math.prod(slate.propensities))
        assert not any(slate.explored)
    assert slate.frame is not None
    possible = {tuple(map(int, shown)): share for shown, share in lists_of(slate.frame.of_ids(str))}
    assert sum(possible.values()) == pytest.approx(1)
    assert {order: possible[order] for order in probability} == pytest.approx(probability)
    often = {order: _SEEDS * share for order, share in possible.items() if _SEEDS * share > 5}
    distance = sum((seen[order] - each) ** 2 / each for order, each in often.items())
    freedom = len(often) - 1
    assert freedom > 3
    assert distance < freedom + 4 * math.sqrt(2 * freedom)  # chi-square, past the 99.9th percentile


@given(shops.shops, shops.rules(), st.integers(1, 6), st.integers(0, 99))
def test_rules_hold_in_a_sampled_order(
    shop: Shop, rules: list[dict[str, Any]], n: int, seed: int
) -> None:
    pool = pool_of(shop)
    plain = arranged(pool, n, rules=rules)
    slate = arranged(pool, n, f"{seed}", samples=True, rules=rules)
    assert slate.frame is not None
    assert len(slate.order) == len(set(slate.order)) == len(plain.order)
    # Without chance, the frame is the list that the rules make.
    ranked = iter(slate.frame.ranked)
    assert [row if row >= 0 else next(ranked) for row in slate.frame.slots] == plain.order
    pinned = {place: row for place, row in enumerate(slate.frame.slots) if row >= 0}
    assert {place: slate.order[place] for place in pinned} == pinned
    fitting = _within_limits(shop, rules, [*pinned.values(), *slate.frame.ranked], pinned)
    assert fitting
    assert [shop[row][2] for row in slate.order if row not in pinned.values()] == [
        shop[row][2] for row in plain.order if row not in pinned.values()
    ]


def _within_limits(
    shop: Shop, rules: Sequence[dict[str, Any]], rows: Sequence[int], pinned: dict[int, int]
) -> bool:
    """Whether no group has two of these rows, apart from pinned ones of caps."""
    groups = Counter(
        shop[row][0]["item_group_id"] for row in rows if "item_group_id" in shop[row][0]
    )
    caps = [rule for rule in rules if rule["action"] == "cap" and not rule["filter"]]
    for rule in caps:
        counts = Counter(
            str(value)
            for row in rows
            if row not in pinned.values()
            for value in _values(shop[row][0].get(rule["attribute"]))
        )
        if any(often > rule["most"] for often in counts.values()):
            return False
    return not any(often > 1 for often in groups.values())


def _values(value: Any) -> set[Any]:
    if value is None:
        return set()
    return set(value) if isinstance(value, list) else {value}


def test_the_share_of_sampled_lists_is_the_wanted_one_and_a_greater_share_keeps_them() -> None:
    seeds = [f"{number:032x}" for number in range(5_000)]
    some = {seed for seed in seeds if is_sampled(seed, 0.1)}
    assert len(some) == pytest.approx(500, abs=80)
    assert some < {seed for seed in seeds if is_sampled(seed, 0.2)}
    assert not any(is_sampled(seed, 0.0) for seed in seeds)
    assert all(is_sampled(seed, 1.0) for seed in seeds)
