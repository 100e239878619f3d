import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slipstream.models.ease import EaseParameters, fit_ease
from slipstream.models.neighbours import ItemToItem
from tests.unit.models.logs import log_of

SEQUENCES = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=8)


def _dense(model: ItemToItem) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    size = model.n_items
    if len(model.data) > len(model.indices):
        return model.data.reshape(size, size)
    dense = np.zeros((size, size), np.float32)
    dense[np.repeat(np.arange(size), np.diff(model.indptr)), model.indices] = model.data
    return dense


@given(SEQUENCES, st.sampled_from([1.0, 30.0]))
def test_ease_is_the_closed_form_of_the_paper(sequences: list[list[int]], regularisation: float) -> None:
    visits = np.zeros((len(sequences), 6))
    for user, sequence in enumerate(sequences):
        visits[user, sequence] = 1
    inverse = np.linalg.inv(visits.T @ visits + regularisation * np.eye(6))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    found = _dense(fit_ease(log_of(sequences, 6), EaseParameters(regularisation)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_large_catalogue_is_solved_in_the_space_of_its_largest_directions() -> None:
    """Visitors of six tastes, each of ten items: six directions tell the tastes apart; with nearly all the answer is exact."""
    random = np.random.default_rng(0)
    sequences = [(random.permutation(10)[:6] + 10 * random.integers(6)).tolist() for _ in range(600)]
    log = log_of(sequences, 62)  # two items have no events
    exact, nearly, rough = (
        _dense(fit_ease(log, parameters))
        for parameters in (EaseParameters(20.0), EaseParameters(20.0, 40, rank=59), EaseParameters(20.0, 40, rank=6))
    )
    assert np.corrcoef(exact.ravel(), nearly.ravel())[0, 1] > 0.95
    for item in range(60):
        assert set(np.argsort(-rough[item])[:9] // 10) == {item // 10}
    assert not rough[60:].any() and not rough[:, 60:].any() and not np.diag(rough).any()


def test_ease_of_nothing_says_nothing() -> None:
    assert len(fit_ease(log_of([[]], 4), EaseParameters()).data) == 0
