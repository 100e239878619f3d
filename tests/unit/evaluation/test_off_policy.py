"""Off-policy estimates: unbiased on toys of few lists, in any order of lists."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from slipstream.evaluation.off_policy import (
    Estimate,
    RewardModel,
    doubly_robust,
    effective_visitors,
    ips,
    judged,
    mean_over_visitors,
    self_normalised,
)

ITEMS, PLACES = range(4), 3
LISTS = list(itertools.permutations(ITEMS, PLACES))
Policy = Callable[[tuple[int, ...]], NDArray[np.float64]]
Reward = Callable[[tuple[int, ...]], float]


def policy(weights: Sequence[float]) -> Policy:
    """The probability of each item at the next place: its weight among those that are left."""

    def odds(before: tuple[int, ...]) -> NDArray[np.float64]:
        left = np.array([0.0 if item in before else weights[item] for item in ITEMS])
        return left / left.sum()

    return odds


LOG, DRAFT = policy([4.0, 3.0, 2.0, 1.0]), policy([1.0, 1.0, 5.0, 2.0])


def probability(of: Policy, listed: tuple[int, ...]) -> float:
    return math.prod(of(listed[:place])[item] for place, item in enumerate(listed))


def marginal(of: Policy) -> NDArray[np.float64]:
    odds = np.zeros((PLACES, len(ITEMS)))
    for listed in LISTS:
        odds[range(PLACES), listed] += probability(of, listed)
    return odds


def value(of: Policy, reward: Reward) -> float:
    """The mean reward of a policy's lists, over all lists."""
    return sum(
        probability(of, listed) * sum(reward(listed[: k + 1]) for k in range(PLACES))
        for listed in LISTS
    )


def by_item_and_place(up_to: tuple[int, ...]) -> float:
    return (up_to[-1] + 1) / (len(up_to) + 1)


def by_items_before(up_to: tuple[int, ...]) -> float:
    return by_item_and_place(up_to) / (1 + 3 * sum(up_to[:-1]))


def mean(values: NDArray[np.float64]) -> float:
    """The expectation of a value of each list by the log."""
    return float(np.array([probability(LOG, listed) for listed in LISTS]) @ values)


def rewards(reward: Reward) -> NDArray[np.float64]:
    return np.array([[reward(each[: k + 1]) for k in range(PLACES)] for each in LISTS])


@given(arrays(float, (PLACES, len(ITEMS)), elements=st.floats(0, 2)))
def test_estimates_by_position_are_unbiased_whatever_the_model(model: NDArray[np.float64]) -> None:
    here, there = marginal(LOG), marginal(DRAFT)
    places, items = np.arange(PLACES), np.array(LISTS)
    weights = there[places, items] / here[places, items]
    gained, truth = rewards(by_item_and_place), value(DRAFT, by_item_and_place)
    assert mean(ips(gained, weights)) == pytest.approx(truth)
    drafted = np.broadcast_to((there * model).sum(axis=1), gained.shape)
    robust = doubly_robust(gained, weights, model[places, items], drafted)
    assert mean(robust) == pytest.approx(truth)


@given(arrays(float, (PLACES, len(ITEMS)), elements=st.floats(0, 2)))
def test_estimates_by_cascade_are_unbiased_where_items_before_matter(
    model: NDArray[np.float64],
) -> None:
    weights = np.array(
        [
            np.cumprod([DRAFT(each[:k])[each[k]] / LOG(each[:k])[each[k]] for k in range(PLACES)])
            for each in LISTS
        ]
    )
    before = np.hstack((np.ones((len(LISTS), 1)), weights[:, :-1]))
    gained, truth = rewards(by_items_before), value(DRAFT, by_items_before)
    assert mean(ips(gained, weights)) == pytest.approx(truth)
    drafted = np.array([[DRAFT(each[:k]) @ model[k] for k in range(PLACES)] for each in LISTS])
    expected = model[np.arange(PLACES), np.array(LISTS)]
    robust = doubly_robust(gained, weights, expected, drafted, before)
    assert mean(robust) == pytest.approx(truth)


def test_a_right_model_leaves_no_error_and_self_normalised_weights_keep_a_constant() -> None:
    here, there = marginal(LOG), marginal(DRAFT)
    places, items = np.arange(PLACES), np.array(LISTS)
    weights = there[places, items] / here[places, items]
    gained = rewards(by_item_and_place)
    model = np.array([[(item + 1) / (k + 2) for item in ITEMS] for k in range(PLACES)])
    drafted = np.broadcast_to((there * model).sum(axis=1), gained.shape)
    robust = doubly_robust(gained, weights, model[places, items], drafted)
    assert robust == pytest.approx(np.full(len(LISTS), value(DRAFT, by_item_and_place)))
    assert self_normalised(np.ones_like(gained), weights) == pytest.approx(
        np.full(len(LISTS), PLACES)
    )


@given(st.data())
def test_the_mean_over_visitors_depends_on_no_order(data: st.DataObject) -> None:
    size = data.draw(st.integers(3, 30))
    values = data.draw(arrays(float, size, elements=st.floats(-5, 5)))
    visitors = np.sort(data.draw(arrays(np.int64, size, elements=st.integers(0, 4))))
    order = np.array(data.draw(st.permutations(range(size))))
    one = mean_over_visitors(values, visitors)
    assert one == pytest.approx(mean_over_visitors(values[order], visitors[order]))
    assert one.low <= one.value <= one.high
    # A visitor with each list twice says no more: the error of 1 list each stays.
    twice = mean_over_visitors(np.repeat(values, 2), np.repeat(visitors, 2))
    assert twice == pytest.approx(one)


def test_the_interval_is_that_of_independent_lists_where_each_visitor_has_one() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, 400)
    found = mean_over_visitors(values, np.arange(400))
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(values.std(ddof=1) / 20)


def test_one_visitor_or_none_tells_nothing() -> None:
    assert mean_over_visitors(np.ones(3), np.zeros(3, np.int64)).high == math.inf
    assert mean_over_visitors(np.empty(0), np.empty(0, np.int64)).low == -math.inf
    assert effective_visitors(np.empty(0), np.empty(0, np.int64)) == 0


def test_effective_visitors_are_those_with_a_reward_and_few_with_outliers() -> None:
    alike = np.tile([1.0, 0.0], 500)
    assert effective_visitors(alike, np.arange(1_000)) == 500
    outlier = np.ones(1_000)
    outlier[3] = 100.0
    assert effective_visitors(outlier, np.arange(1_000)) == pytest.approx(1.2, abs=0.1)
    assert effective_visitors(np.zeros(9), np.arange(9)) == 0


def test_a_model_of_rewards_learns_places_and_items() -> None:
    lists = [["a", "b"], ["b", "a"], ["a"], ["b", "c"]] * 50
    gained = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]] * 50)
    model = RewardModel.fit(gained, lists)
    assert model.rates == pytest.approx([0.5, 1 / 3])
    a, b, unknown = model.of(["a", "b", "z"])
    assert a > 1.5
    assert b < 0.2
    assert unknown == 1.0


def estimate(value: float, error: float) -> Estimate:
    return Estimate(value, value - 2 * error, value + 2 * error, error)


def test_judgements() -> None:
    sure = judged(estimate(0.5, 0.1), 1_000, 0.0, 0.0, 900.0, 500.0)
    assert (sure.verdict, sure.slates_needed) == ("more", None)
    assert judged(estimate(-0.5, 0.1), 1_000, 0.0, 0.0, 900.0, 500.0).verdict == "fewer"
    wide = judged(estimate(0.1, 0.1), 1_000, 0.0, 0.0, 900.0, 500.0)
    assert wide.verdict == "open"
    assert wide.slates_needed == pytest.approx(3_842, abs=1)
    assert judged(estimate(0.1, 0.1), 1_000, 0.02, 0.2, 900.0, 500.0).slates_needed is None
    unsupported = judged(estimate(0.5, 0.1), 1_000, 0.3, 0.0, 900.0, 500.0)
    assert (unsupported.verdict, unsupported.slates_needed) == ("cant_tell", None)
    assert "30%" in unsupported.reason
    thin = judged(estimate(0.5, 0.1), 1_000, 0.0, 0.0, 50.0, 500.0)
    assert (thin.verdict, thin.slates_needed) == ("cant_tell", 4_000)
    assert judged(estimate(0.0, 0.0), 1_000, 0.0, 0.0, 1_000.0, 0.0).slates_needed is None
