"""Many queries at once: the lists are those of `recommend`, and the other orders differ."""

from dataclasses import replace

import numpy as np
import pytest

from slipstream.contracts.progress import ProgressStep
from slipstream.evaluation.metrics import UNRANKED
from slipstream.models.base import NEVER, History
from slipstream.models.repurchases import Repurchases
from slipstream.recommender import predict as predicting
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.predict import Answers, predict, question_of
from slipstream.recommender.stages import Event, encode_history, recommend
from tests.unit.recommender.chain import item_name

DEPTH = 5


@pytest.fixture
def queries(bundle: Bundle) -> list[Query]:
    """A visitor at each place of the ring, who goes on to the next; the last item is unknown."""
    labels = [bundle.index[item_name(place + 2)] for place in range(39)] + [-1]
    return [
        Query(encode_history(bundle, events(place)), label) for place, label in enumerate(labels)
    ]


def events(place: int) -> list[Event]:
    return [Event(item_name(place)), Event(item_name(place + 1))]


def ask(bundle: Bundle, queries: list[Query], **options: bool) -> Answers:
    return predict(bundle, queries, question_of, DEPTH, **options)


def test_lists_are_those_that_are_served(bundle: Bundle, queries: list[Query]) -> None:
    answers = ask(bundle, queries)
    for place, shown in enumerate(answers.shown):
        served = [item.item_id for item in recommend(bundle, events(place), DEPTH)]
        assert [bundle.item_ids[item] for item in shown] == served
        label = queries[place].label
        in_list = np.flatnonzero(shown == label).tolist()
        assert in_list in ([], [answers.ranks[place]])
    assert answers.ranks[-1] == UNRANKED and (answers.ranks[:-1] == 0).mean() > 0.8
    assert (answers.milliseconds > 0).all()
    assert answers.ablated.shape == (40, 0)


def test_a_bought_item_rests_in_questions_of_a_file_too(bundle: Bundle) -> None:
    pause = np.full(len(bundle.item_ids), NEVER)
    pause[5] = 10
    learned = replace(bundle, repeats=True, repurchases=Repurchases(pause))
    history = History(np.array([4, 5, 6]), np.ones(3, np.float32), np.arange(3))
    query = Query(history, 1, np.array([True, True, False]), 5)
    assert question_of(learned, None, query).exclude.tolist() == [4, 5]
    assert question_of(learned, None, query._replace(timestamp=11)).exclude.tolist() == [4]
    assert question_of(learned, None, query._replace(bought=None)).exclude.tolist() == []
    assert question_of(bundle, None, query).exclude.tolist() == [4, 5, 6]


def test_other_orders_have_a_column_each(bundle: Bundle, queries: list[Query]) -> None:
    answers = ask(bundle, queries, ablation=True)
    names = list(bundle.retrievers)
    assert answers.ablated.shape == (40, 1 + 2 * len(names))
    alone = dict(zip(names, answers.ablated.T[1:], strict=False))
    assert alone["rules"][:-1].mean() < alone["popularity"][:-1].mean()
    assert (answers.ablated[-1] == UNRANKED).all()


def test_processes_answer_the_same(
    bundle: Bundle, queries: list[Query], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(predicting, "_AT_ONCE", 15)
    steps: list[ProgressStep] = []
    many = predict(bundle, queries, question_of, DEPTH, steps.append, in_processes=True)
    assert [step.done for step in steps] == [0, 15, 30, 40]
    once = ask(bundle, queries)
    np.testing.assert_array_equal(many.ranks, once.ranks)
    np.testing.assert_array_equal(many.shown, once.shown)
