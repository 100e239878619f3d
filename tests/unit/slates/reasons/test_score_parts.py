import numpy as np
import pytest

from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Event
from slipstream.slates.reasons.score_parts import score_parts

HISTORY = [Event(f"i{place}", "view", 1_000 * place) for place in (3, 60, 200, 7)]


def test_parts_add_up_to_the_differences_of_scores(whole: Bundle) -> None:
    question = stages.list_question(whole, HISTORY, 20)
    listed = stages.answers(whole, [question])[0]
    numbers = np.array([whole.index[each.item_id] for each in listed], np.int32)
    parts = score_parts(whole, question, numbers)
    sums = [sum(each.retrievers.values()) + (each.ranker or 0) for each in parts]
    scores = np.log([each.score for each in listed])
    assert np.array(sums) - sums[0] == pytest.approx(scores - scores[0], abs=1e-3)
    assert [each.source for each in parts] == [each.source for each in listed]


def test_features_have_the_rankers_names(whole: Bundle) -> None:
    question = stages.list_question(whole, HISTORY, repeats=True)
    ids = [each.item_id for each in stages.recommend(whole, HISTORY, 200, repeats=True)]
    numbers = np.array([whole.index[item_id] for item_id in ids], np.int32)
    assert whole.ranking is not None
    seen = set()
    for item_id, part in zip(ids, score_parts(whole, question, numbers), strict=True):
        assert list(part.features) == list(whole.ranking.features)
        assert part.features["history length"] == pytest.approx(np.log(5), abs=1e-6)
        seen |= {item_id} if part.features["seen"] else set()
    assert seen == set(ids) & {event.item_id for event in HISTORY} != set()


def test_an_item_that_is_no_candidate_has_no_parts(whole: Bundle) -> None:
    question = stages.list_question(whole, HISTORY, exclude={"i9"})
    for part in score_parts(whole, question, np.array([-1, 3, 9], np.int32)):
        assert part == (None, {}, None, {})
