"""The lists of demand: masses by list, and the lists that backfill makes of history."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.features.history.sinks import HeaviestItems
from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import signal_weight
from slipstream.features import decay
from slipstream.features.decay import POPULAR_WINDOWS
from slipstream.stores.layout import TrendingState

NOW = 1_790_000_000_000
HALF_LIVES = decay.half_lives(float(DAY_MS))

events = st.lists(
    st.tuples(
        st.sampled_from(["view", "cart", "purchase", "impression", "custom"]),
        st.integers(NOW - 40 * DAY_MS, NOW),
    ),
    max_size=20,
)


def event(kind: str, at: int, number: int = 0) -> Interaction:
    return Interaction(
        event_id=f"e{number}",
        event_type=kind,
        user_id="u",
        item_id="a",
        timestamp=at,
        received_at=at,
    )


def test_half_of_a_window_ago_an_event_counts_half() -> None:
    for window, (name, length) in enumerate(POPULAR_WINDOWS.items(), 1):
        masses = decay.add_event(None, event("view", NOW - length // 2), HALF_LIVES)
        assert masses is not None
        assert decay.value(masses[window], NOW, HALF_LIVES[window]) == pytest.approx(0.5), name


@given(events, st.randoms(use_true_random=False))
def test_masses_are_those_of_each_half_life_in_any_order(
    made: list[tuple[str, int]], chosen: random.Random
) -> None:
    shuffled = made.copy()
    chosen.shuffle(shuffled)
    masses = None
    for kind, at in shuffled:
        masses = decay.add_event(masses, event(kind, at), HALF_LIVES)
    for place, half_life in enumerate(HALF_LIVES):
        due = None
        for kind, at in made:
            due = decay.add(due, signal_weight(kind), at, half_life)
        assert (masses is None) == (due is None)
        if masses is not None:
            assert masses[place] == pytest.approx(due, rel=1e-12)


def test_each_list_of_history_keeps_its_own_heaviest_items() -> None:
    heaviest = HeaviestItems(1, TrendingState(half_life_ms=float(DAY_MS)))
    for offset, (item_id, ages) in enumerate(
        {
            "steady": [day * DAY_MS for day in range(1, 30)],
            "lately": [HOUR_MS // 6] * 3,
            "none": [],
        }.items()
    ):
        records = [
            StreamInteraction("t:0", 100 * offset + number, event("view", NOW - age, number))
            for number, age in enumerate(ages)
        ]
        heaviest.add(records, item_id)
    masses = heaviest.by_item()
    assert {
        window: [item for item, of_lists in masses.items() if of_lists[place] is not None]
        for place, window in enumerate(("trending", *POPULAR_WINDOWS))
    } == {
        "trending": ["lately"],
        "hour": ["lately"],
        "day": ["lately"],
        "week": ["steady"],
        "month": ["steady"],
    }
    assert (heaviest.state.applied, heaviest.state.newest) == ({"t:0": 102}, NOW - HOUR_MS // 6)
