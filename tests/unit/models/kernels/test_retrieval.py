"""Votes of visits: their bits depend neither on how visits are found nor on a call of `pow`."""

import numpy as np
import pytest
from numpy.typing import NDArray

from slipstream.models.kernels import retrieval
from slipstream.models.kernels.compiler import kernel
from slipstream.models.kernels.selection import words
from slipstream.models.sessions import LONGEST_VISIT, Sessions, SessionsParameters, fit_sessions
from tests.unit.models.logs import log_of

ITEMS = 60
# More visits than the hash table has slots.
MANY = 5_000


@kernel
def voted(
    visit_items: NDArray[np.int32],
    visit_ends: NDArray[np.int64],
    visits: NDArray[np.int32],
    places: NDArray[np.int64],
    item_ends: NDArray[np.int64],
    rule: NDArray[np.float64],
    item: NDArray[np.int32],
    items: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> int:
    n_items = len(item_ends)
    return retrieval.session_votes(
        visit_items, visit_ends, visits, places, item_ends, np.ones(n_items, np.float32), rule,
        item, np.zeros(n_items), np.zeros(8, np.int64), items, scores,
    )  # fmt: skip


def _votes(index: Sessions, history: list[int]) -> tuple[bytes, bytes]:
    """The items and scores of a history, as bytes."""
    own, item = index.own, np.array(history, np.int32)
    rule = np.array([
        own.neighbours, own.recent, own.max_events, own.position_decay, own.distance_decay,
        own.backward, own.length_exponent, own.rarity, own.half_life or 0,
    ], np.float64)  # fmt: skip
    assert words(ITEMS) == 8
    items, scores = np.empty(ITEMS, np.int32), np.empty(ITEMS, np.float32)
    size = voted(
        index.items, index.ends, index.visits, index.places, index.item_ends, rule, item, items,
        scores,
    )  # fmt: skip
    return items[:size].tobytes(), scores[:size].tobytes()


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("neighbours", [7, 200])
def test_an_array_over_visits_and_a_hash_table_give_the_same_bits(
    exponent: float, neighbours: int
) -> None:
    random = np.random.default_rng(7)
    own = SessionsParameters(length_exponent=exponent, neighbours=neighbours)
    shared = [random.integers(0, ITEMS - 1, random.integers(2, 60)).tolist() for _ in range(150)]
    few, many = (
        fit_sessions(log_of([*([[ITEMS - 1]] * others), *shared], ITEMS), own)
        for others in (0, MANY)
    )
    for _ in range(30):
        history = random.integers(0, ITEMS - 1, random.integers(1, 15)).tolist()
        assert _votes(few, history) == _votes(many, history)
        assert len(_votes(few, history)[0]) > 0


def test_an_exponent_of_one_divides_by_the_length() -> None:
    own = SessionsParameters(length_exponent=1.0, distance_decay=1.0, neighbours=1)
    for length in range(2, LONGEST_VISIT + 1):
        index = fit_sessions(log_of([list(range(length))], ITEMS), own)
        expected = np.full(length - 1, 1 / length, np.float32)
        assert _votes(index, [0])[1] == expected.tobytes()
