"""Questions are drawn over visitors."""

from dataclasses import replace

import numpy as np
import pytest

from slipstream.models.base import InteractionLog
from slipstream.recommender.holdout import QUESTIONS_A_VISITOR, newest_events, over_visitors

# Visitor 0 has 100 rows, visitors 1 to 50 two each, visitor 51 none.
VISITORS = np.random.default_rng(0).permutation(
    np.concatenate([np.zeros(100), np.repeat(np.arange(1, 51), 2)]).astype(np.int32)
)
ROWS = np.flatnonzero(np.arange(600) % 3 == 0)


@pytest.mark.parametrize(("size", "each"), [(51, 1), (102, 2), (1_000, QUESTIONS_A_VISITOR)])
def test_a_visitor_has_a_second_question_when_all_have_one(size: int, each: int) -> None:
    drawn = over_visitors(ROWS, VISITORS, size, seed=0)
    visitors = VISITORS[np.searchsorted(ROWS, drawn)]
    assert np.bincount(visitors).tolist() == [each, *[min(each, 2)] * 50]
    assert np.isin(drawn, ROWS).all() and (np.diff(drawn) > 0).all()


def test_a_visitors_questions_are_drawn_by_seed() -> None:
    first, same, other = (over_visitors(ROWS, VISITORS, 20, seed) for seed in (1, 1, 2))
    assert len(first) == len(set(VISITORS[np.searchsorted(ROWS, first)])) == 20
    assert first.tolist() == same.tolist() != other.tolist()


def test_without_rows_there_are_no_questions() -> None:
    assert not len(over_visitors(ROWS[:0], VISITORS[:0], 10, 0))


@pytest.mark.parametrize(
    ("onset", "least", "since"),
    [
        pytest.param(None, 1, 900, id="the last tenth"),
        pytest.param(0, 1, 900, id="an old shift"),
        pytest.param(900, 50, 950, id="half of what came since the shift"),
        pytest.param(900, 51, 900, id="too few since the shift"),
        pytest.param(2_000, 1, 900, id="nothing since the shift"),
    ],
)
def test_validation_leaves_half_of_the_events_since_a_shift_to_learn_from(
    onset: int | None, least: int, since: int
) -> None:
    times, ones = np.arange(1_000), np.ones(1_000, np.float32)
    user = np.repeat(np.arange(10), 100).astype(np.int32)
    times = times.reshape(100, 10).T.ravel()
    log = InteractionLog(user, (times % 7).astype(np.int32), times, ones, 7)
    found = newest_events(log, onset, least)
    assert times[found.training].max() == since - 1
    assert times[found.validation].min() == since
    assert len(found.training) + len(found.validation) == len(found.final) == 1_000


def test_validation_asks_nothing_about_an_item_that_rests() -> None:
    """Each look is followed by a cart, in the same visit: serving hides the item by then."""
    times, ones = np.arange(1_000), np.ones(1_000, np.float32)
    looked = times % 2 == 0
    item = (times // 2 % 7).astype(np.int32)
    log = InteractionLog(np.zeros(1_000, np.int32), item, times, ones, 7, looked=looked)
    found = newest_events(log)
    assert found.validation.tolist() == list(range(900, 1_000, 2))
    assert len(found.training) == 900 and len(found.final) == 1_000
    unknown = replace(log, looked=None)
    assert newest_events(unknown).validation.tolist() == list(range(900, 1_000))
