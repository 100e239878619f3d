"""The interest of visitors in one item: the same as in each one's own list, made alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.interest import interests
from slipstream.recommender.stages import Event
from tests.unit.recommender.chain import item_name

histories = st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=6), min_size=1, max_size=5)


@given(histories, st.integers(0, 39), st.sampled_from([5, 200]))
def test_interest_is_that_of_the_item_in_each_visitors_own_list(
    bundle: Bundle, walks: list[list[int]], place: int, length: int
) -> None:
    events = [[Event(item_name(at)) for at in walk] for walk in walks]
    questions = [stages.list_question(bundle, each, length, repeats=True) for each in events]
    item_id = item_name(place)
    found = interests(bundle, questions, bundle.index[item_id])
    for each, interest in zip(events, found, strict=True):
        own = [one.item_id for one in stages.recommend(bundle, each, length, repeats=True)]
        ranked = stages.rank_items(bundle, each, {*own, item_id})
        order = [one.item_id for one in ranked]
        assert interest.score == pytest.approx(ranked[order.index(item_id)].score)
        assert interest.place == (own.index(item_id) + 1 if item_id in own else None)


def test_item_that_may_not_be_in_lists_is_ranked_among_those_that_may(bundle: Bundle) -> None:
    item = bundle.index[item_name(6)]
    allowed = np.ones(len(bundle.item_ids), np.bool_)
    allowed[item] = False
    history = [Event(item_name(4)), Event(item_name(5))]
    (interest,) = interests(bundle, [stages.list_question(bundle, history, allowed=allowed)], item)
    assert interest.place == 1
    assert 0 < interest.score < 1
