import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features.item import (
    CLICK_THROUGH,
    CONVERSION,
    DAYS,
    HOURS,
    NEIGHBOUR_HALF_LIFE_MS,
    NEIGHBOURS,
    NEIGHBOURS_KEPT,
    POPULARITY_HALF_LIFE_MS,
    ItemState,
    fold_all,
    item_features,
    neighbour_features,
    neighbours_of,
    smoothed,
)
from slipstream.features.views import ITEM
from slipstream.features.visitor import Covisit
from tests.unit.features.strategies import START, interactions


def event(at: int, kind: str = "view") -> Interaction:
    return Interaction(
        event_id="e", event_type=kind, user_id="u", item_id="a", timestamp=at, received_at=at
    )


NAMES = ("counts", "hours", "days", "first_seen", "last_seen", "neighbours")


def alike(state: ItemState, other: ItemState) -> bool:
    """Equal, the decayed mass up to rounding."""
    rest = all(getattr(state, name) == getattr(other, name) for name in NAMES)
    if state.mass is None or other.mass is None:
        return rest and state.mass is other.mass
    return rest and state.mass == pytest.approx(other.mass, rel=1e-12)


@given(st.lists(interactions(), max_size=40), st.randoms(use_true_random=False))
def test_fold_gives_the_same_state_in_any_order_of_arrival(
    events: list[Interaction], chance: random.Random
) -> None:
    shuffled = events.copy()
    chance.shuffle(shuffled)
    assert alike(fold_all(None, shuffled), fold_all(None, events))


@given(st.lists(interactions(), min_size=1, max_size=30), st.integers(0, 30))
def test_fold_gives_the_same_state_however_it_is_split(events: list[Interaction], cut: int) -> None:
    together = fold_all(None, events)
    assert alike(fold_all(fold_all(None, events[:cut]), events[cut:]), together)
    one_by_one: ItemState | None = None
    for each in events:
        one_by_one = fold_all(one_by_one, [each])
    assert one_by_one is not None and alike(one_by_one, together)


def test_fold_leaves_the_given_state_as_it_was() -> None:
    state = fold_all(None, [event(START)])
    fold_all(state, [event(START + 1, "purchase")])
    assert (state.counts, state.hours.counts[0], state.last_seen) == ({"view": 1}, [1], START)


def test_features_of_an_item_never_seen_are_the_declared_defaults() -> None:
    assert item_features(None, START) == {feature.name: feature.default for feature in ITEM.fields}
    assert neighbour_features(None, START) == {"neighbours": [], "neighbour_weights": []}


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


@given(
    st.lists(interactions(), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
    st.integers(0, 3 * DAY_MS),
)
def test_windows_count_every_event_in_whatever_order_they_come(
    events: list[Interaction], chance: random.Random, later: int
) -> None:
    shuffled = events.copy()
    chance.shuffle(shuffled)
    now = max(each.timestamp for each in events) + later
    features = item_features(fold_all(None, shuffled), now)
    for span, (size, tiles) in {
        "1d": (HOUR_MS, 24),
        "7d": (DAY_MS, 7),
        "30d": (DAY_MS, 30),
    }.items():
        inside = [
            each.event_type for each in events if each.timestamp // size > now // size - tiles
        ]
        assert features[f"events_{span}"] == sum(
            kind not in ("impression", "search") for kind in inside
        )
        for kind in ("view", "click", "cart", "purchase", "impression"):
            assert features[f"{kind}s_{span}"] == inside.count(kind)


def test_rates_set_clicks_against_impressions_and_purchases_against_visits() -> None:
    kinds = ["impression"] * 180 + ["click"] * 19 + ["view"] * 50 + ["purchase"] * 4
    old = [
        event(START - 40 * DAY_MS, kind)
        for kind in ["impression"] * 800 + ["click"] * 80 + ["purchase"] * 96
    ]
    features = item_features(fold_all(None, [*old, *(event(START, kind) for kind in kinds)]), START)
    assert features["click_through_7d"] == features["click_through_30d"] == pytest.approx(20 / 200)
    assert features["conversion_30d"] == pytest.approx(5 / 100)
    assert features["click_through"] == pytest.approx(100 / 1000)
    assert features["conversion"] == pytest.approx(101 / 150)


def test_momentum_compares_today_with_a_day_of_the_week() -> None:
    noon = START // DAY_MS * DAY_MS + DAY_MS // 2
    steady = fold_all(None, [event(noon - day * DAY_MS) for day in range(7) for _ in range(10)])
    assert item_features(steady, noon)["momentum"] == pytest.approx(1.0)
    assert item_features(steady, noon + 2 * DAY_MS)["momentum"] < 0.2


def test_windows_of_an_earlier_moment_leave_out_what_came_after_it() -> None:
    state = fold_all(None, [event(START - 2 * HOUR_MS), event(START), event(START + 1)])
    assert item_features(state, START)["views_1d"] == 1


def test_windows_of_an_earlier_moment_begin_where_those_of_now_do() -> None:
    ages = (24 * HOUR_MS, 23 * HOUR_MS, 0)
    state = fold_all(None, [event(START - age) for age in ages])
    assert item_features(state, START)["views_1d"] == 2
    ahead = fold_all(state, [event(START + HOUR_MS)])
    assert item_features(ahead, START)["views_1d"] == 1  # without the hour that goes on


@given(
    st.lists(st.tuples(st.sampled_from("bcde"), st.integers(0, 30 * DAY_MS)), max_size=40),
    st.integers(0, 40),
)
def test_neighbours_weigh_the_decayed_pairs_however_they_are_split(
    visits: list[tuple[str, int]], cut: int
) -> None:
    covisits = [Covisit("a", other, START + at) for other, at in visits]
    state = fold_all(fold_all(None, (), covisits[cut:]), [event(START)], covisits[:cut])
    now = START + 31 * DAY_MS
    due = {other: 0.0 for other, _ in visits}
    for other, at in visits:
        due[other] += 2 ** (-(31 * DAY_MS - at) / NEIGHBOUR_HALF_LIFE_MS)
    assert dict(neighbours_of(state, now)) == pytest.approx(due, rel=1e-4)
    weights = [weight for _, weight in neighbours_of(state, now)]
    assert weights == sorted(weights, reverse=True)


def test_the_heaviest_neighbours_are_kept() -> None:
    covisits = [
        Covisit("a", f"n{number}", START) for number in range(40) for _ in range(number + 1)
    ]
    state = fold_all(None, (), covisits)
    assert set(state.neighbours) == {f"n{number}" for number in range(40 - NEIGHBOURS_KEPT, 40)}
    features = neighbour_features(state, START)
    assert features["neighbours"] == [f"n{number}" for number in range(39, 39 - NEIGHBOURS, -1)]
    assert features["neighbour_weights"][0] == pytest.approx(40.0, rel=1e-4)
    assert neighbour_features(state, START, ["neighbours"]).keys() == {"neighbours"}


def test_of_neighbours_as_heavy_the_lesser_ids_are_kept() -> None:
    names = [f"n{number:02}" for number in range(NEIGHBOURS_KEPT + 5)]
    for order in (names, names[::-1]):
        state = fold_all(None, (), [Covisit("a", name, START) for name in order])
        assert sorted(state.neighbours) == names[:NEIGHBOURS_KEPT]


def test_rate_begins_at_the_priors_mean_and_comes_to_be_the_plain_rate() -> None:
    assert smoothed(0, 0, CLICK_THROUGH) == pytest.approx(0.05)
    assert smoothed(0, 0, CONVERSION) == pytest.approx(0.02)
    assert smoothed(1, 2, CLICK_THROUGH) == pytest.approx(2 / 22)
    assert smoothed(30_000, 100_000, CLICK_THROUGH) == pytest.approx(0.3, rel=1e-3)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_rate_lies_between_0_and_1_even_where_trials_were_not_recorded(
    successes: int, trials: int
) -> None:
    assert 0.0 < smoothed(successes, trials, CONVERSION) < 1.0
