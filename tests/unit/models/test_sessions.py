"""Session neighbours: visits like this one, the order in them, and what is kept of many."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.models.sessions import LONGEST_VISIT, Sessions, SessionsParameters, fit_sessions
from tests.unit.models.logs import history_of, log_of

VISITS = [[0, 1, 2], [0, 1, 3], [4, 5, 6], [1, 2, 7]]
PLAIN = SessionsParameters(rarity=0.0, length_exponent=0.0)


def votes(sessions: Sessions, *items: int) -> dict[int, float]:
    scored = sessions.score(history_of(*items))
    assert (np.diff(scored.item) > 0).all()
    return dict(zip(scored.item.tolist(), scored.score.tolist(), strict=True))


def test_neighbours_vote_by_similarity_and_distance() -> None:
    found = votes(fit_sessions(log_of(VISITS, 8), PLAIN), 0, 1)
    decay, backward = PLAIN.distance_decay, PLAIN.backward
    both, one = 1 + PLAIN.position_decay, 1.0
    # The visits share 1, the latest of the history; 2 and 3 are one further, 7 two, and 0 comes
    # before.
    assert found == pytest.approx(
        {
            0: 2 * both * backward * decay,
            2: (both + one) * decay,
            3: both * decay,
            7: one * decay**2,
        },
        rel=1e-6,
    )


def test_the_latest_event_counts_most() -> None:
    sessions = fit_sessions(log_of([[0, 1], [2, 3]], 4), PLAIN)
    assert votes(sessions, 0, 2)[3] > votes(sessions, 0, 2)[1]


def test_rare_items_and_late_visits_can_count_more() -> None:
    sessions = fit_sessions(log_of([[0, 1], [0, 1], [0, 2]], 3), PLAIN)
    assert votes(sessions, 0)[1] > votes(sessions, 0)[2]
    rare = votes(replace(sessions, own=replace(PLAIN, rarity=2.0)), 0)
    assert rare[2] > rare[1]
    late = votes(replace(sessions, own=replace(PLAIN, half_life=0.2)), 0)
    assert late[2] > late[1]


def test_only_the_latest_visits_of_an_item_are_kept() -> None:
    sessions = fit_sessions(
        log_of([[0, 1]] * 3 + [[0, 2]] * 2, 3, gap_ms=1), replace(PLAIN, recent=2)
    )
    assert set(votes(sessions, 0)) == {2}


def test_long_histories_are_cut_into_visits() -> None:
    walk = [0, *([1] * (LONGEST_VISIT - 1)), 2, 3]
    assert 2 not in votes(fit_sessions(log_of([walk], 4), PLAIN), 0)
    assert set(votes(fit_sessions(log_of([walk], 4), PLAIN), 2)) == {3}


def test_nothing_to_go_by_says_nothing() -> None:
    sessions = fit_sessions(log_of(VISITS, 9), PLAIN)
    assert votes(sessions) == {}
    assert votes(sessions, 8) == {}


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), max_size=6),
)
def test_whatever_the_visits_dense_and_sparse_agree_and_saving_keeps_scores(
    visits: list[list[int]], asked: list[int]
) -> None:
    sessions = fit_sessions(log_of(visits, 10), SessionsParameters())
    scored = sessions.score(history_of(*asked))
    assert (scored.score > 0).all()
    dense = sessions.score_all([history_of(*asked)])[0]
    np.testing.assert_array_equal(np.flatnonzero(dense), scored.item)
    restored = Sessions.restore(sessions.arrays(), sessions.parameters())
    np.testing.assert_array_equal(restored.score(history_of(*asked)).score, scored.score)
