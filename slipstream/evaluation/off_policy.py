"""Off-policy estimates: the reward that lists would have had by another policy, from a log.

Three estimators, each by two assumptions on what a response to an item depends on:

* *by position*: on the item and its place (Li et al., "Offline evaluation of ranking policies with
  click models", KDD 2018, the item-position model). A weight is the ratio of the probabilities that
  the item stands at its place, whatever stands before it.
* *cascade*: also on the items before it (Kiyohara et al., "Doubly robust off-policy evaluation for
  ranking policies under the cascade behavior model", WSDM 2022). A weight is the ratio of the
  probabilities of the list up to the place.

Inverse propensity scoring (IPS), self-normalised IPS (Swaminathan & Joachims, "The self-normalized
estimator for counterfactual learning", NeurIPS 2015), and doubly robust estimates (Dudik, Langford
& Li, "Doubly robust policy evaluation and learning", ICML 2011). Each is a value for each list, of
which the mean is the estimate, so that its error follows from the values of visitors.

Arrays are (lists, places). A place that a list does not have has reward, weight and expectation 0.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Normal quantile of a 95 % interval.
_TWO_SIDED: Final = 1.959963984540054


def ips(rewards: Values, weights: Values) -> Values:
    """The value of each list by inverse propensity scoring; unbiased where weights are finite."""
    return np.asarray((weights * rewards).sum(axis=1))


def self_normalised(rewards: Values, weights: Values) -> Values:
    """The value of each list by self-normalised IPS; their mean is the estimate.

    A place's weights are divided by their mean: biased by about 1 / lists, and less scattered. The
    values are linear in each list's share (the delta method), so that their spread is the error.
    """
    means = weights.mean(axis=0)
    scaled = np.divide(weights, means, out=np.zeros_like(weights), where=means > 0)
    rates = (scaled * rewards).mean(axis=0)
    return np.asarray((rates + scaled * (rewards - rates)).sum(axis=1))


def doubly_robust(
    rewards: Values,
    weights: Values,
    expected: Values,
    drafted: Values,
    before: Values | float = 1.0,
) -> Values:
    """The value of each list by a model of rewards, corrected by IPS of what it does not explain.

    Unbiased for any model that was not fitted on the same lists.

    Args:
        drafted: The model's mean reward of the other policy's items at the place; by cascade, given
            the items before it.
        before: The weight of the place before, by cascade; 1 by position.
    """
    return np.asarray((before * drafted + weights * (rewards - expected)).sum(axis=1))


# Rewards by which an item's factor is drawn to 1.
_PRIOR: Final = 5.0


class RewardModel(NamedTuple):
    """A model of rewards: a rate for each place, times a factor for each item. `rates` go by place,
    `factors` by item shown.
    """

    rates: Values
    factors: Mapping[str, float]

    @classmethod
    def fit(cls, rewards: Values, lists: Sequence[Sequence[str]]) -> "RewardModel":
        """A model of these lists of ids.

        An item's factor is the sum of its rewards, divided by the sum of its places' rates, both
        with as much added as five rewards are on average.
        """
        lengths = np.array([len(each) for each in lists], np.int64)
        shown = np.arange(rewards.shape[1]) < lengths[:, None]
        counts = shown.sum(axis=0)
        rates = np.divide(rewards.sum(axis=0), counts, out=np.zeros(len(counts)), where=counts > 0)
        gained, usual = dict[str, float](), dict[str, float]()
        for items, row in zip(lists, rewards.tolist(), strict=True):
            for item_id, reward, rate in zip(items, row, rates.tolist(), strict=False):
                gained[item_id] = gained.get(item_id, 0.0) + reward
                usual[item_id] = usual.get(item_id, 0.0) + rate
        positive = rewards[rewards > 0]
        prior = _PRIOR * float(positive.mean()) if len(positive) else 1.0
        return cls(rates, {each: (gained[each] + prior) / (usual[each] + prior) for each in usual})

    def of(self, items: Sequence[str]) -> Values:
        """The factors of items; 1 for one that was never shown."""
        return np.array([self.factors.get(item_id, 1.0) for item_id in items], np.float64)


class Estimate(NamedTuple):
    """A mean with its 95 % interval, and the standard error of it."""

    value: float
    low: float
    high: float
    error: float


def by_visitor(values: Values, visitors: NDArray[np.int64]) -> tuple[Values, NDArray[np.int64]]:
    """The sum of values and the number of lists of each visitor; `visitors` numbers them from 0."""
    sums = np.asarray(np.bincount(visitors, values), np.float64)
    return sums, np.bincount(visitors).astype(np.int64)


def mean_over_visitors(values: Values, visitors: NDArray[np.int64]) -> Estimate:
    """The mean of lists' values, with an interval over visitors.

    Lists of one visitor are alike, so the mean is a ratio of sums over visitors (the delta method;
    Deng, Knoblich & Lu, "Applying the delta method in metric analytics", KDD 2018). With fewer than
    two visitors the interval is infinite.
    """
    sums, counts = by_visitor(values, visitors)
    total, people = counts.sum(), int(np.count_nonzero(counts))
    if not total:
        return Estimate(0.0, -np.inf, np.inf, np.inf)
    mean = float(sums.sum() / total)
    if people < 2:
        return Estimate(mean, -np.inf, np.inf, np.inf)
    rest = sums - mean * counts
    error = float(np.sqrt((rest**2).sum() * people / (people - 1)) / total)
    return Estimate(mean, mean - _TWO_SIDED * error, mean + _TWO_SIDED * error, error)


def effective_visitors(rewards: Values, visitors: NDArray[np.int64]) -> float:
    """The number of visitors that the sum of their squared rewards rests on.

    (sum of squares)² / sum of fourth powers: as many as have a reward where all have the same, few
    where some outliers have the most.
    """
    squares = by_visitor(rewards, visitors)[0] ** 2
    fourth = float((squares**2).sum())
    return float(squares.sum()) ** 2 / fourth if fourth else 0.0


# Share of a draft's places that may have items which the log could never have there.
MOST_UNSUPPORTED: Final = 0.05
# Visitors that an interval must rest on, by weights and by deviations. With fewer, 95 % intervals
# may cover less than 93 % (docs/measurements/price.md).
LEAST_BY_WEIGHTS: Final = 200
LEAST_BY_REWARDS: Final = 60


class Verdict(NamedTuple):
    """A judgement on a difference.

    Attributes:
        verdict: `more`, `fewer`, `open` where the interval has 0, or `cant_tell`.
        reason: Why it can't be told; empty where it can.
        slates_needed: The number of sampled lists that would do; None where no number does, or
            where those of the log do already.
    """

    verdict: Literal["more", "fewer", "open", "cant_tell"]
    reason: str
    slates_needed: int | None


def judged(
    difference: Estimate,
    lists: int,
    unsupported: float,
    unknown: float,
    by_weights: float,
    by_rewards: float,
) -> Verdict:
    """The judgement on a difference.

    Args:
        unsupported: Share of the draft's places with items that the log could never have there.
        unknown: The reward of these items, by which the interval is wider at each end.
        by_weights: Visitors that the weights leave effective.
        by_rewards: The figure of `effective_visitors`.
    """
    if unsupported > MOST_UNSUPPORTED:
        return Verdict(
            "cant_tell",
            f"{unsupported:.0%} of the draft's places have items that the log's rules or model "
            "could never show there; only showing them tells, as a variant of an experiment",
            None,
        )
    short = max(LEAST_BY_WEIGHTS / max(by_weights, 1e-9), LEAST_BY_REWARDS / max(by_rewards, 1e-9))
    if not difference.error or not by_rewards:
        return Verdict("cant_tell", "nothing in the log tells the two apart", None)
    if short > 1:
        return Verdict(
            "cant_tell",
            f"the estimate rests on {min(by_weights, by_rewards):.0f} visitors: the others say "
            "little of the draft's lists",
            int(np.ceil(min(lists * short, 1e12))),
        )
    if difference.low <= 0 <= difference.high:
        distance = abs(difference.value) - unknown
        needed = lists * (_TWO_SIDED * difference.error / distance) ** 2 if distance > 0 else np.inf
        return Verdict("open", "", int(np.ceil(needed)) if needed < 1e12 else None)
    return Verdict("more" if difference.value > 0 else "fewer", "", None)
