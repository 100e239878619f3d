"""Diversity makes slates less alike."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise, permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slipstream.filters.evaluation import values_of
from tests.unit.slates.arranging.shops import Shop, arranged, pool_of, shares, shops


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
