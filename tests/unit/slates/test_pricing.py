"""Prices by sampled lists: unbiased weights, and what nothing can tell."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.evaluation.off_policy import RewardModel
from slipstream.slates.arranging.sampling import ItemFrame
from slipstream.slates.pricing import PricedReward, fold_of, priced, weighed
from tests.unit.slates.arranging.test_sampling import lists_of

LOG = ItemFrame(["", "", ""], ["a", "b", "c", "d", "e"], [5])
MODEL = RewardModel(np.array([0.4, 0.2, 0.1]), {"a": 1.5, "c": 0.5})


def truth(frame: ItemFrame) -> float:
    """The mean reward of a frame's lists, of an item at its place."""
    return sum(
        share * sum((ord(item_id) - 96) / (place + 1) for place, item_id in enumerate(shown))
        for shown, share in lists_of(frame)
    )


@given(st.permutations(LOG.ranked), st.integers(0, 2), st.sampled_from(["", "c"]))
def test_weights_of_all_lists_give_the_drafts_reward(
    ranked: Sequence[str], place: int, pinned: str
) -> None:
    slots = ["", "", ""]
    slots[place] = pinned
    draft = ItemFrame(slots, [each for each in ranked if each != pinned], [5 - bool(pinned)])
    estimates = np.zeros(2)
    for shown, share in lists_of(LOG):
        found = weighed(LOG, draft, shown, [MODEL])
        gained = np.array([(ord(each) - 96) / (k + 1) for k, each in enumerate(shown)])
        estimates += share * np.array(
            [
                found.weights[0].ratio @ gained,
                np.cumprod(found.weights[1].ratio) @ gained,
            ]
        )
        before = np.cumprod([1.0, *found.weights[1].ratio[:-1]])
        assert found.weights[0].beyond.sum() == (before * found.weights[1].beyond).sum() == 0
        assert found.weights[0].drawn == pytest.approx(np.ones(3))
    assert estimates == pytest.approx(np.full(2, truth(draft)))


def test_the_same_frame_weighs_one_everywhere() -> None:
    found = weighed(LOG, LOG, ["b", "a", "e"], [MODEL])
    for each in found.weights:
        assert each.ratio == pytest.approx(np.ones(3))
        assert each.spread == pytest.approx(np.ones(3))
        assert each.logged == pytest.approx(each.drafted)
    assert found.factors.tolist() == [[1.0, 1.5, 1.0]]


def log_of(
    draft: ItemFrame, times: int, seed: int = 0
) -> tuple[list[PricedReward], list[PricedReward]]:
    """The price of clicks by a log of all lists, and by the same in another order."""
    random = np.random.default_rng(seed)
    shown = [list(listed) for listed, _ in itertools.islice(lists_of(LOG), 60)] * times
    lists = [weighed(LOG, draft, each, [MODEL]) for each in shown]
    rewards = (random.random((len(shown), 3)) < MODEL.rates).astype(float)
    visitors = [f"visitor {number // 2}" for number in range(len(shown))]
    order = random.permutation(len(shown))
    rates = [MODEL.rates, MODEL.rates]
    return priced(lists, rewards, rates, 0, visitors), priced(
        [lists[place] for place in order],
        rewards[order],
        rates,
        0,
        [visitors[place] for place in order],
    )


def test_a_price_depends_on_no_order_of_the_lists() -> None:
    for one, other in zip(*log_of(ItemFrame(["", "", ""], list("badce"), [5]), 20), strict=True):
        assert one.difference == pytest.approx(other.difference)
        assert (one.assumption, one.estimator) == (other.assumption, other.estimator)
        assert one.judgement.verdict == other.judgement.verdict


def test_a_draft_like_the_log_changes_nothing_and_says_so() -> None:
    for each in log_of(LOG, 20)[0]:
        assert each.difference.value == pytest.approx(0)
        assert each.judgement.verdict == "cant_tell"
        assert "apart" in each.judgement.reason


@pytest.mark.parametrize(
    "draft",
    [
        ItemFrame(["new", "", ""], list("abcde"), [5]),
        ItemFrame(["", "", ""], ["new", *"abcd"], [5]),
        ItemFrame(["", "", "", ""], list("abcde"), [5]),
    ],
)
def test_without_support_there_is_no_price(draft: ItemFrame) -> None:
    for each in log_of(draft, 20)[0]:
        assert each.judgement.verdict == "cant_tell"
        assert each.unsupported > 0.1


def test_a_list_that_a_draft_shortens_loses_its_last_places() -> None:
    short = ItemFrame(["", ""], list("abcde"), [5])
    lost = log_of(short, 60)[0][0]
    assert lost.unsupported == 0
    assert lost.difference.value == pytest.approx(-MODEL.rates[2], abs=0.05)


def test_folds_halve_visitors() -> None:
    assert sum(fold_of(f"{number}") for number in range(1_000)) == pytest.approx(500, abs=60)
