import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.features.item import DAYS, HOURS, POPULARITY_HALF_LIFE_MS, ItemState, fold, fold_all, item_features
from slipstream.features.views import ITEM
from slipstream.features.visitor import DAY_MS, HOUR_MS
from tests.unit.features.strategies import START, interactions


def event(at: int, kind: str = "view") -> Interaction:
    return Interaction(event_id="e", event_type=kind, user_id="u", item_id="a", timestamp=at, received_at=at)


def alike(one: ItemState, other: ItemState) -> bool:
    """Equal, the decayed mass up to rounding."""
    rest = all(getattr(one, name) == getattr(other, name) for name in ("counts", "hours", "days", "first_seen", "last_seen"))
    if one.mass is None or other.mass is None:
        return rest and one.mass is other.mass
    return rest and one.mass == pytest.approx(other.mass, rel=1e-12)


@given(st.lists(interactions(), max_size=40), st.randoms(use_true_random=False))
def test_fold_gives_the_same_state_in_any_order_of_arrival(events: list[Interaction], chance: random.Random) -> None:
    shuffled = events.copy()
    chance.shuffle(shuffled)
    assert alike(fold_all(None, shuffled), fold_all(None, events))


@given(st.lists(interactions(), min_size=1, max_size=30), st.integers(0, 30))
def test_fold_gives_the_same_state_however_it_is_split(events: list[Interaction], cut: int) -> None:
    together = fold_all(None, events)
    assert alike(fold_all(fold_all(None, events[:cut]), events[cut:]), together)
    one_by_one: ItemState | None = None
    for each in events:
        one_by_one = fold(one_by_one, each)
    assert one_by_one is not None and alike(one_by_one, together)


def test_fold_leaves_the_given_state_as_it_was() -> None:
    state = fold(None, event(START))
    fold(state, event(START + 1, "purchase"))
    assert (state.counts, state.hours.counts[0], state.last_seen) == ({"view": 1}, [1], START)


def test_features_of_an_item_never_seen_are_the_declared_defaults() -> None:
    assert item_features(None, START) == {feature.name: feature.default for feature in ITEM.fields}


def test_popularity_halves_each_half_life_and_weighs_types() -> None:
    state = fold_all(None, [event(START), event(START, "purchase"), event(START, "impression")])
    assert item_features(state, START)["popularity"] == pytest.approx(4.0)
    assert item_features(state, START + POPULARITY_HALF_LIFE_MS)["popularity"] == pytest.approx(2.0)


def test_windows_count_whole_hours_and_days_up_to_the_asked_moment() -> None:
    now = START // DAY_MS * DAY_MS + 12 * HOUR_MS
    ages = (0, HOUR_MS, 23 * HOUR_MS, 24 * HOUR_MS, 6 * DAY_MS, 7 * DAY_MS)
    features = item_features(fold_all(None, [event(now - age) for age in ages]), now)
    assert (features["events_1d"], features["events_7d"]) == (3, 5)
    assert features["age_hours"] == 7 * 24
    assert tuple(features) == ITEM.feature_names


def test_old_buckets_are_dropped_and_counts_stay() -> None:
    state = fold_all(None, [event(START + number * HOUR_MS) for number in range(24 * 40)])
    assert (len(state.hours.counts[0]), len(state.days.counts[0])) == (HOURS.kept, DAYS.kept)
    assert state.counts == {"view": 24 * 40}
