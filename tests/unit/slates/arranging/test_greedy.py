"""Each place gets the candidate with the greatest value, by the formulas written out plainly."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.slates.arranging.pool import Visitor
from tests.unit.slates.arranging.shops import (
    Attributes,
    Shop,
    arranged,
    attributes,
    pool_of,
    shares,
    shops,
)
from tests.unit.slates.arranging.test_likeness import likeness_of_pairs

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
