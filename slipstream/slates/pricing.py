"""Prices of drafts: by how much a draft's sampled lists would change a reward, by a log's lists.

Both policies draw their lists in the same way (`arranging.sampling`), so that the ratio of their
probabilities is known for each logged list.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipstream.evaluation.off_policy import (
    Estimate,
    RewardModel,
    Values,
    Verdict,
    doubly_robust,
    effective_visitors,
    ips,
    judged,
    mean_over_visitors,
    self_normalised,
)
from slipstream.slates.arranging.sampling import ItemFrame, Odds
from slipstream.slates.participation import position

# Assumptions on what a response depends on, and estimators. The first of each decides.
Assumption = Literal["position", "cascade"]
Estimator = Literal["dr", "snips", "ips"]
ASSUMPTIONS: Final[tuple[Assumption, ...]] = ("position", "cascade")
ESTIMATORS: Final[tuple[Estimator, ...]] = ("dr", "snips", "ips")
# Halves of visitors: a list is judged by the model of rewards of the other half.
FOLDS: Final = 2


class _Weights(NamedTuple):
    """The weights of a list by one assumption, for each place.

    Attributes:
        ratio: The draft's probability of the item, divided by the log's.
        spread: The mean square of that over all items that the log may have there.
        beyond: The draft's probability of items that the log can't have there.
        drawn: The draft's probability to have an item there.
        logged: For each model of rewards, the mean factor of the log's items there.
        drafted: The same of the draft's items.
    """

    ratio: Values
    spread: Values
    beyond: Values
    drawn: Values
    logged: Values
    drafted: Values


class WeighedList(NamedTuple):
    """A logged list, weighed by a draft. Weights go by `ASSUMPTIONS`; `factors` has those of the
    shown items for each model.
    """

    length: int
    weights: Sequence[_Weights]
    factors: Values


def fold_of(visitor_id: str) -> int:
    """The fold of a visitor."""
    return int(position("price", visitor_id) * FOLDS)


def weighed(
    logged: ItemFrame, draft: ItemFrame, shown: Sequence[str], models: Sequence[RewardModel]
) -> WeighedList:
    """A list's weights by a draft. The models did not see the list."""
    columns: dict[str, int] = {}
    for item_id in (*shown, *logged.slots, *logged.ranked, *draft.slots, *draft.ranked):
        if item_id:
            columns.setdefault(item_id, len(columns))
    number, width = columns.__getitem__, len(columns)
    places = max(len(shown), len(draft.slots), len(logged.slots))
    at = np.arange(len(shown)), np.array([number(item_id) for item_id in shown], np.int64)
    factors = np.array([model.of(list(columns)) for model in models]).reshape(len(models), width)

    def odds(of: Callable[[ItemFrame], Odds]) -> _Weights:
        before, after = np.zeros((places, width)), np.zeros((places, width))
        before[: len(logged.slots)], after[: len(draft.slots)] = of(logged), of(draft)
        can = before > 0
        ratio = np.zeros(places)
        ratio[: len(shown)] = after[at] / before[at]
        spread = np.divide(after**2, before, out=np.zeros_like(after), where=can).sum(axis=1)
        beyond = np.where(can, 0.0, after).sum(axis=1)
        drawn = after.sum(axis=1)
        expected = factors @ before.T, factors @ after.T
        return _Weights(ratio, spread, beyond, drawn, *expected)

    return WeighedList(
        len(shown),
        [
            odds(lambda frame: frame.marginal(number, width)),
            odds(lambda frame: frame.conditional(shown, number, width)),
        ],
        factors[:, at[1]],
    )


class PricedReward(NamedTuple):
    """An estimate of a reward's change per list.

    Attributes:
        difference: The change from the log's lists to the draft's. Its interval is wider by what is
            not known of items that the log could not show.
        by_weights: Visitors that the weights leave effective.
        by_rewards: Visitors that the rewards rest on.
        unsupported: Share of the draft's places with items that the log could never have there.
    """

    assumption: Assumption
    estimator: Estimator
    difference: Estimate
    judgement: Verdict
    by_weights: float
    by_rewards: float
    unsupported: float


def priced(
    lists: Sequence[WeighedList],
    rewards: Values,
    rates: Sequence[Values],
    kind: int,
    visitor_ids: Sequence[str],
) -> list[PricedReward]:
    """The estimates of one reward's change. `rewards` are (lists, places); `rates` go by fold and
    place. `kind` is the place of the reward's models among those of the weighing.
    """
    places = max((len(each.weights[0].ratio) for each in lists), default=0)
    numbers: dict[str, int] = {}
    visitors = np.array([numbers.setdefault(each, len(numbers)) for each in visitor_ids], np.int64)
    gained = _padded(list(rewards), places)
    of_list = _padded([rates[fold_of(each)] for each in visitor_ids], places)
    shown = (np.arange(places) < np.array([each.length for each in lists])[:, None]).astype(float)
    expected = of_list * _padded([each.factors[kind] for each in lists], places)
    total, found = gained.sum(axis=1), list[PricedReward]()
    importance, by_rewards = gained.mean(axis=0), effective_visitors(total, visitors)
    for nth, assumption in enumerate(ASSUMPTIONS):
        of_it = [each.weights[nth] for each in lists]
        ratio, spread, beyond, drawn = (
            _padded([each[field] for each in of_it], places) for field in range(4)
        )
        logged = of_list * _padded([each.logged[kind] for each in of_it], places)
        drafted = of_list * _padded([each.drafted[kind] for each in of_it], places)
        before = np.ones_like(ratio)
        if assumption == "cascade":
            ratio = ratio.cumprod(axis=1)
            before[:, 1:] = ratio[:, :-1]
            # Not the squares of the log's own weights: great ones may not have come.
            spread = spread.cumprod(axis=1)
            # What follows on a beginning that the draft never has does not count.
            beyond, drawn = beyond * before, drawn * before
        here = doubly_robust(gained, shown, expected, logged)
        differences: dict[Estimator, Values] = {
            "dr": doubly_robust(gained, ratio, expected, drafted, before) - here,
            "snips": self_normalised(gained, ratio) - total,
            "ips": ips(gained, ratio) - total,
        }
        by_place = importance / importance.sum() if importance.any() else np.ones(places) / places
        by_weights = len(numbers) / max(float(by_place @ spread.mean(axis=0)), 1.0)
        unsupported = float(beyond.sum() / drawn.sum()) if drawn.any() else 0.0
        # Items that the log could not show have from no reward to twice the usual one of the place.
        unknown = float((beyond * of_list).sum() / max(len(lists), 1))
        for estimator in ESTIMATORS:
            values = differences[estimator]
            difference = mean_over_visitors(values, visitors)
            difference = difference._replace(
                low=difference.low - unknown, high=difference.high + unknown
            )
            judgement = judged(difference, len(lists), unsupported, unknown, by_weights, by_rewards)
            found.append(
                PricedReward(
                    assumption, estimator, difference, judgement, by_weights, by_rewards,
                    unsupported,
                )
            )  # fmt: skip
    return found


def _padded(rows: Sequence[NDArray[np.float64]], places: int) -> Values:
    """Rows of different lengths as one array, with zeros behind the short ones."""
    out = np.zeros((len(rows), places))
    for place, row in enumerate(rows):
        out[place, : min(len(row), places)] = row[:places]
    return out
