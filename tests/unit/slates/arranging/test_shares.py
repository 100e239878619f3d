"""Exploration draws what its propensities say, and the same for the same recommendation."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from slipstream.slates.arranging.shares import draws
from tests.unit.slates.arranging.shops import arranged, pool_of

_SEEDS = 4_000
# Five items of the first tier, and one of the second, which is drawn only after them.
SHOP = [
    ({"brand": "a"}, 9.0, 0),
    ({"brand": "a", "item_group_id": "g"}, 8.0, 0),
    ({"brand": "b"}, 7.0, 0),
    ({"brand": "c", "item_group_id": "g"}, 6.0, 0),
    ({"brand": "a"}, 5.0, 0),
    ({"brand": "d"}, 9.0, 1),
]
COLD = [False, True, False, True, True, True]
CAP = {"name": "cap", "action": "cap", "attribute": "brand", "most": 1}
PIN = {"name": "pin", "action": "pin", "position": 2, "filter": 'brand == "b"'}


@pytest.mark.parametrize(
    "policy",
    [{}, {"rules": [CAP, PIN]}, {"rules": [PIN], "diversity": 0.4}, {"group_by": ""}],
)
def test_slates_come_as_often_as_their_propensities_say(policy: dict[str, Any]) -> None:
    pool = pool_of(SHOP, cold=COLD)
    seen, probability = Counter[tuple[int, ...]](), dict[tuple[int, ...], float]()
    explored = places = 0
    for seed in range(_SEEDS):
        slate = arranged(pool, 3, f"{seed}", exploration=0.3, **policy)
        order = tuple(slate.order)
        seen[order] += 1
        assert probability.setdefault(order, math.prod(slate.propensities)) == pytest.approx(
            math.prod(slate.propensities)
        )
        assert all(COLD[place] for place, drawn in zip(order, slate.explored, strict=True) if drawn)
        explored += sum(slate.explored)
        places += len(order) - ("rules" in policy)
    # All slates that there may be have come, so that this is the sum over all alternatives.
    assert sum(probability.values()) == pytest.approx(1)
    expected = {order: _SEEDS * each for order, each in probability.items()}
    distance = sum((seen[order] - often) ** 2 / often for order, often in expected.items())
    freedom = len(expected) - 1
    assert freedom > 1
    assert distance < freedom + 4 * math.sqrt(2 * freedom)  # chi-square, past the 99.9th percentile
    if policy.get("rules") != [CAP, PIN]:  # where no cold item may stand, a place can't explore
        assert explored / places == pytest.approx(0.3, abs=0.02)


def test_a_slate_is_drawn_again_for_the_same_recommendation() -> None:
    pool = pool_of(SHOP, cold=COLD)
    slates = [[arranged(pool, 3, f"{seed}", exploration=0.5) for seed in range(9)] for _ in "ab"]
    assert slates[0] == slates[1]
    assert len({tuple(slate.order) for slate in slates[0]}) > 1


def test_without_cold_items_or_a_share_nothing_is_drawn() -> None:
    for pool, share in ((pool_of(SHOP), 1.0), (pool_of(SHOP, cold=COLD), 0.0)):
        slate = arranged(pool, 3, "seed", exploration=share)
        assert (slate.order, slate.propensities) == ([0, 1, 2], [1.0] * 3)
        assert not any(slate.explored)


def test_full_exploration_uses_up_the_cold_items_of_a_tier_first() -> None:
    pool = pool_of(SHOP, cold=COLD)
    for seed in range(20):
        slate = arranged(pool, 6, f"{seed}", exploration=1.0, group_by="")
        assert sorted(slate.order[:3]) == [1, 3, 4]
        assert slate.propensities[:3] == pytest.approx([1 / 3, 1 / 2, 1])
        assert slate.order[3:] == [0, 2, 5]


def test_draws_never_change_and_are_spread_evenly() -> None:
    assert draws("a", 1).tolist() == [[0.7476583017349824, 0.16831023829130276]]
    many = np.concatenate([draws(f"{seed}", 10) for seed in range(500)]).ravel()
    assert draws("seed", 3).tolist() == draws("seed", 9)[:3].tolist()
    counts = np.histogram(many, 20, (0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 19 + 4 * math.sqrt(38)
