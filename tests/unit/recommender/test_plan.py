from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from slipstream.models.base import History, Mask, SparseScores
from slipstream.models.blend import Blend
from slipstream.models.neighbours import ItemToItem, strongest
from slipstream.recommender import plan_rows
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.plan import ListRequest, Lists
from slipstream.recommender.stages import rank
from tests.unit.recommender.reference import (
    reference_candidates,
    reference_list,
    reference_scores,
)
from tests.unit.recommender.small_models import ITEMS, histories, small_bundle

SHORT = ListRequest(10, 40, 60)
# Masks that leave all items, a half, and so few that retrievers have to look further.
SHARES = [1.0, 0.5, 0.05]


def mask_of(share: float) -> Mask:
    return np.random.default_rng(2).random(ITEMS + 7) < share


def entries(found: Lists, row: int = 0) -> list[tuple[int, float, int]]:
    columns = (column[row].tolist() for column in found[:3])
    return [entry for entry in zip(*columns, strict=True) if entry[0] >= 0]


@pytest.fixture(scope="module", params=[0, 12], ids=["compared whole", "clusters"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("PROBED", 120), ("NAMED", 50)):
            patch.setattr(f"slipstream.models.nearest.{name}", value)
        made = small_bundle(clusters=request.param)
        _ = made.plan
    return made


@pytest.fixture(autouse=True)
def few_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipstream.models.nearest.PROBED", 120)
    monkeypatch.setattr("slipstream.models.nearest.NAMED", 50)


@pytest.mark.parametrize("share", SHARES)
def test_lists_are_those_of_numpy(bundle: Bundle, share: float) -> None:
    mask = mask_of(share)
    asked = histories(60)
    excluded = [np.unique(history.item) for history in asked]
    found = bundle.plan.recommend(asked, SHORT._replace(allowed=mask), excluded)
    for row, history in enumerate(asked):
        expected = reference_list(bundle, history, 10, 40, 60, excluded[row], mask[:ITEMS])
        listed = entries(found, row)
        assert [entry[0] for entry in listed] == [entry[0] for entry in expected]
        assert [entry[1] for entry in listed] == pytest.approx(
            [entry[1] for entry in expected], abs=1e-5
        )
        for entry, wanted in zip(listed, expected, strict=True):
            assert entry[2] in wanted[2]
        assert mask[[entry[0] for entry in listed]].all()


def test_candidates_are_those_of_numpy(bundle: Bundle) -> None:
    for history in histories(30):
        expected = reference_candidates(bundle, history, 40)
        found = bundle.plan.candidates(history, SHORT)
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=2e-5, atol=1e-5)
        np.testing.assert_allclose(found.features, expected.features, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(found.totals, expected.totals, rtol=1e-4, atol=1e-3)
        order = rank(bundle, history, expected, 60)
        np.testing.assert_array_equal(np.isfinite(found.order), np.isfinite(order))
        ranked = np.isfinite(order)
        np.testing.assert_allclose(found.order[ranked], order[ranked], rtol=1e-4, atol=1e-4)


def test_the_networks_state_is_that_of_numpy(bundle: Bundle) -> None:
    network, asked = bundle.network, histories(9)
    assert network is not None
    found = bundle.plan.recommend(asked, SHORT).states
    for row, history in enumerate(asked):
        expected = network.state(history) if len(history.item) else np.zeros(len(found[row]))
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(bundle.plan.candidates(history, SHORT).state, found[row])


def test_two_networks_have_a_state_each(bundle: Bundle) -> None:
    other = small_bundle(seed=5, clusters=12).network
    assert other is not None
    blend = Blend(np.append(bundle.blend.weights, 0.5), np.append(bundle.blend.floors, 1e-7))
    both = replace(
        bundle, retrievers={**bundle.retrievers, "second": other}, blend=blend, ranking=None
    )
    for history in histories(9)[1:]:
        expected = reference_candidates(both, history, 40)
        found = both.plan.candidates(history, SHORT)
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=2e-5, atol=1e-5)


def test_the_best_of_many_compared_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few are named that the kernel chooses the best several times within a search."""
    monkeypatch.setattr("slipstream.models.nearest.PROBED", ITEMS)
    monkeypatch.setattr("slipstream.models.nearest.NAMED", 12)
    made = small_bundle(clusters=12)
    for history in histories(20):
        expected = reference_candidates(made, history, 10)
        found = made.plan.candidates(history, ListRequest(5, 10, 60))
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=2e-5, atol=1e-5)


def test_given_items_are_the_candidates(bundle: Bundle) -> None:
    given = np.array([3, 4, 50, 299], np.int32)
    history = histories(9)[8]
    found = bundle.plan.candidates(history, ListRequest(0, 0, 4, given=True), given)
    np.testing.assert_array_equal(found.items, given)
    expected = reference_scores(bundle, history, given)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=2e-5, atol=1e-5)


def test_a_history_gets_the_same_list_alone_and_among_others(bundle: Bundle) -> None:
    asked = histories(40)
    together = bundle.plan.recommend(asked, SHORT)
    for row, history in enumerate(asked):
        alone = bundle.plan.recommend([history], SHORT)
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_[row])


def test_threads_ask_one_plan_at_the_same_time(bundle: Bundle) -> None:
    asked = histories(40)
    expected = [entries(bundle.plan.recommend([history], SHORT)) for history in asked]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda one: entries(bundle.plan.recommend([one], SHORT)), asked * 5)
        assert list(found) == expected * 5


def test_only_some_retrievers_decide_without_the_ranker(bundle: Bundle) -> None:
    history = histories(6)[5]
    found = bundle.plan.recommend([history], SHORT._replace(n=ITEMS, only=[1, 4]))
    candidates = reference_candidates(bundle, history, 40)
    supported = (candidates.scores[:, [1, 4]] > 0).any(axis=1)
    assert {entry[0] for entry in entries(found)} == set(candidates.items[supported].tolist())


def test_a_bundle_without_a_ranker_orders_all_candidates_by_the_blend() -> None:
    plain = small_bundle(ranks=False)
    history = histories(6)[5]
    expected = reference_list(plain, history, ITEMS, 40, 60)
    found = entries(plain.plan.recommend([history], SHORT._replace(n=ITEMS)))
    assert [entry[0] for entry in found] == [entry[0] for entry in expected]


def test_rows_that_are_nearly_full_vote_as_their_entries_do() -> None:
    known = small_bundle()
    random = np.random.default_rng(5)
    dense = random.normal(size=(ITEMS, ITEMS)).astype(np.float32)
    dense[random.random((ITEMS, ITEMS)) < 0.2] = 0
    rules: Any = known.retrievers["rules"]
    nearly = ItemToItem(*strongest(csr_array(dense), ITEMS), rules.weighting, logarithmic=False)
    bundle = replace(known, retrievers={**known.retrievers, "rules": nearly})
    for history in histories(30):
        expected = reference_candidates(bundle, history, 40)
        found = bundle.plan.candidates(history, SHORT)
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=2e-5, atol=1e-5)


def test_a_network_whose_projections_are_too_large_to_keep_has_the_same_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = histories(30)
    kept = small_bundle().plan.recommend(asked, SHORT)
    monkeypatch.setattr(plan_rows, "_PROJECTED", 0)
    computed = small_bundle().plan.recommend(asked, SHORT)
    np.testing.assert_array_equal(kept.items, computed.items)
    np.testing.assert_allclose(kept.scores, computed.scores, atol=1e-5)


class Foreign(ItemToItem):
    """A retriever of a class that no kernel knows."""

    def score(self, history: History) -> SparseScores:
        known = super().score(history)
        return SparseScores(known.item, known.score * np.float32(2))


def test_a_retriever_that_no_kernel_knows_scores_in_python() -> None:
    known = small_bundle()
    rules: Any = known.retrievers["rules"]
    foreign = Foreign(rules.data, rules.indices, rules.indptr, rules.weighting)
    bundle = replace(known, retrievers={**known.retrievers, "rules": foreign})
    asked = histories(12)
    found = bundle.plan.recommend(asked, SHORT)
    for row, history in enumerate(asked):
        expected = reference_list(bundle, history, 10, 40, 60)
        assert [entry[0] for entry in entries(found, row)] == [entry[0] for entry in expected]


def test_what_would_lead_outside_an_array_is_refused() -> None:
    known = small_bundle()
    rules: Any = known.retrievers["rules"]
    beyond = replace(rules, indices=rules.indices + 1_000)
    with pytest.raises(ValueError, match="neighbours"):
        _ = replace(known, retrievers={**known.retrievers, "rules": beyond}).plan
    history = History(np.array([ITEMS], np.int32), np.ones(1, np.float32), np.zeros(1, np.int64))
    with pytest.raises(IndexError, match="catalogue"):
        known.plan.recommend([history], SHORT)
    with pytest.raises(ValueError, match="mask"):
        known.plan.recommend(histories(1), SHORT._replace(allowed=np.ones(5, np.bool_)))


def test_room_is_left_as_it_was(bundle: Bundle) -> None:
    first = entries(bundle.plan.recommend(histories(6)[5:], SHORT))
    bundle.plan.recommend(histories(60), SHORT._replace(allowed=mask_of(0.05)))
    assert entries(bundle.plan.recommend(histories(6)[5:], SHORT)) == first
