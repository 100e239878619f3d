"""What every retriever promises, whichever it is: fitting again refits, saving keeps scores, and
odd questions get an answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from slipstream.models.base import History, InteractionLog, Retriever
from slipstream.models.content import fit_content
from slipstream.models.ease import EaseParameters, fit_ease
from slipstream.models.neighbours import ItemToItem, revisits
from slipstream.models.popularity import Popularity, fit_popularity
from slipstream.models.rules import RulesParameters, fit_rules
from slipstream.models.sessions import Sessions, SessionsParameters, fit_sessions
from slipstream.models.transformer import Transformer, TransformerParameters
from slipstream.models.transformer_fit import fit_transformer
from tests.unit.models.logs import history_of, log_of

ITEMS = 15
NEVER_SEEN = ITEMS - 1
NETWORK = TransformerParameters(dim=8, window=5, batch=100, epochs=2)


@dataclass(frozen=True)
class Case:
    """How a model is fitted, and the class that reads it. `learns`: from the log, and not only from
    what the items are.
    """

    fit: Callable[[InteractionLog], Retriever]
    kind: type[Retriever]
    learns: bool = True


CASES = {
    "popularity": Case(fit_popularity, Popularity),
    "rules": Case(lambda log: fit_rules(log, RulesParameters()), ItemToItem),
    "ease": Case(lambda log: fit_ease(log, EaseParameters(5.0)), ItemToItem),
    "ease of a large catalogue": Case(
        lambda log: fit_ease(log, EaseParameters(5.0, max_items=6)), ItemToItem
    ),
    "sessions": Case(lambda log: fit_sessions(log, SessionsParameters()), Sessions),
    "transformer": Case(lambda log: fit_transformer(log, NETWORK).model, Transformer),
    "content": Case(
        lambda log: fit_content([{"colour": item % 3} for item in range(log.n_items)]),
        ItemToItem,
        learns=False,
    ),
    "revisits": Case(lambda log: revisits(log.n_items), ItemToItem, learns=False),
}


def shop(seed: int) -> InteractionLog:
    random = np.random.default_rng(seed)
    return log_of(
        [random.integers(NEVER_SEEN, size=random.integers(2, 9)).tolist() for _ in range(60)], ITEMS
    )


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def model(case: Case) -> Retriever:
    return case.fit(shop(0))


def dense(model: Retriever, history: History) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.asarray(model.score_at(model.score(history), np.arange(ITEMS, dtype=np.int32)))


QUESTIONS = {
    "nothing": history_of(),
    "one item": history_of(3),
    "several": history_of(1, 2, 5),
    "the same again and again": history_of(*[4] * 30),
    "more than any window": history_of(*[place % NEVER_SEEN for place in range(400)]),
    "an unseen item": history_of(NEVER_SEEN),
}


@pytest.mark.parametrize("asked", QUESTIONS)
def test_any_history_gets_finite_scores_of_distinct_items_in_order(
    model: Retriever, asked: str
) -> None:
    scored = model.score(QUESTIONS[asked])
    assert scored.item.dtype == np.int32
    assert scored.score.dtype == np.float32
    assert len(scored.item) == len(scored.score) <= ITEMS
    assert (np.diff(scored.item) > 0).all()
    assert np.isfinite(scored.score).all()
    if model.logarithmic:
        assert (scored.score >= 0).all()
    whole = dense(model, QUESTIONS[asked])
    assert whole.shape == (ITEMS,)
    np.testing.assert_allclose(whole[scored.item], scored.score, rtol=1e-5)


@pytest.mark.parametrize("asked", QUESTIONS)
def test_saving_keeps_scores(case: Case, model: Retriever, asked: str) -> None:
    restored = case.kind.restore(model.arrays(), model.parameters())
    np.testing.assert_array_equal(dense(restored, QUESTIONS[asked]), dense(model, QUESTIONS[asked]))


def test_arrays_can_be_saved_without_pickles(model: Retriever) -> None:
    for array in model.arrays().values():
        assert isinstance(array, np.ndarray)
        assert array.dtype != object


def test_the_same_log_gives_the_same_model(case: Case, model: Retriever) -> None:
    again = case.fit(shop(0))
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)


def test_a_second_fit_knows_nothing_of_the_first(case: Case, model: Retriever) -> None:
    before = dense(model, history_of(1, 2)).copy()
    other = case.fit(shop(1))
    np.testing.assert_array_equal(dense(model, history_of(1, 2)), before)
    if case.learns:
        assert np.abs(dense(other, history_of(1, 2)) - before).max() > 0


def test_one_visit_of_two_items_is_enough(case: Case) -> None:
    model = case.fit(log_of([[0, 1]], ITEMS))
    assert np.isfinite(dense(model, history_of(0))).all()


@pytest.mark.parametrize("asked", QUESTIONS)
def test_proposals_are_the_best_that_the_mask_allows(model: Retriever, asked: str) -> None:
    scored = model.score(QUESTIONS[asked])
    mask = np.arange(ITEMS) % 2 == 1
    everything = set(model.propose(scored, ITEMS, None).tolist())
    allowed = model.propose(scored, ITEMS, mask)
    assert set(allowed.tolist()) == {item for item in everything if mask[item]}
    best = model.propose(scored, 2, mask)
    assert best.dtype == np.int32
    assert len(best) == min(2, len(allowed))
    by_score = np.sort(model.score_at(scored, allowed))[::-1]
    np.testing.assert_allclose(np.sort(model.score_at(scored, best))[::-1], by_score[: len(best)])
