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
def test_ease_is_the_closed_form_of_the_paper(
    sequences: list[list[int]], regularisation: float
) -> None:
    visits = np.zeros((len(sequences), 6))
    for user, sequence in enumerate(sequences):
        visits[user, sequence] = 1
    inverse = np.linalg.inv(visits.T @ visits + regularisation * np.eye(6))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    found = _dense(fit_ease(log_of(sequences, 6), EaseParameters(regularisation)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_of_a_large_catalogue_the_most_popular_items_are_solved_as_if_there_were_no_others() -> (
    None
):
    random = np.random.default_rng(0)
    sequences = [
        random.choice(60, 6, replace=False, p=np.arange(1, 61) / 1_830).tolist() for _ in range(300)
    ]
    popular = np.argsort(-np.bincount(np.concatenate(sequences), minlength=60), kind="stable")[:20]
    found = _dense(fit_ease(log_of(sequences, 60), EaseParameters(5.0, max_items=20)))
    alone = _dense(
        fit_ease(
            log_of([[item for item in one if item in popular] for one in sequences], 60),
            EaseParameters(5.0),
        )
    )
    np.testing.assert_array_equal(found, alone)
    assert found[popular].any(axis=1).all() and not np.delete(found, popular, axis=0).any()


def test_ease_of_nothing_says_nothing() -> None:
    assert len(fit_ease(log_of([[]], 4), EaseParameters()).data) == 0
