import numpy as np
import pytest

from slipstream.models import popularity
from slipstream.models.popularity import Popularity, fit_popularity
from tests.unit.models.logs import history_of, log_of


def test_popularity_is_the_share_of_events() -> None:
    assert fit_popularity(log_of([[0, 1], [1, 2], [1, 1]], 4)).share.tolist() == pytest.approx(
        [1 / 6, 4 / 6, 1 / 6, 0]
    )


def test_popularity_halves_with_age() -> None:
    model = fit_popularity(log_of([[0, 1, 2]], 3, gap_ms=1_000), half_life_ms=1_000.0)
    assert model.share.tolist() == pytest.approx([1 / 7, 2 / 7, 4 / 7])


def test_only_the_head_is_proposed_but_every_item_has_a_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(popularity, "HEAD", 2)
    model = fit_popularity(log_of([[3, 3, 3, 1, 1, 0]], 4))
    scored = model.score(history_of())
    assert scored.item.tolist() == [1, 3]
    assert model.score_at(scored, np.array([0, 2, 3], np.int32)).tolist() == pytest.approx(
        [1 / 6, 0, 1 / 2]
    )


@pytest.mark.parametrize("sorted_up_to", [0, 10])
def test_a_mask_without_the_head_gets_the_most_popular_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, sorted_up_to: int
) -> None:
    monkeypatch.setattr(popularity, "HEAD", 2)
    monkeypatch.setattr(popularity, "_SORTED", sorted_up_to)
    model = fit_popularity(log_of([[5] * 6 + [4] * 5 + [3] * 4 + [2] * 3 + [1] * 2 + [0]], 6))
    mask = np.array([True, True, True, False, False, False])
    scored = model.score(history_of())
    assert sorted(model.propose(scored, 2, mask).tolist()) == [1, 2]
    assert sorted(model.propose(scored, 9, mask).tolist()) == [0, 1, 2]
    assert model.propose(scored, 9, np.zeros(6, np.bool_)).tolist() == []


def test_popularity_is_restored_from_its_arrays() -> None:
    model = fit_popularity(log_of([[0, 1, 1]], 3))
    restored = Popularity.restore(model.arrays(), model.parameters())
    np.testing.assert_array_equal(restored.share, model.share)
    np.testing.assert_array_equal(restored.head, model.head)
    np.testing.assert_array_equal(restored.order, model.order)
