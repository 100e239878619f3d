import random

from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import IMPRESSION, WITHOUT_SIGNAL
from slipstream.features.views import VISITOR
from slipstream.features.visitor import (
    IMPRESSIONS_KEPT,
    SEQUENCE_LENGTH,
    TILE_SIZES,
    SequenceEvent,
    VisitorState,
    fold_all,
    join,
    visitor_features,
    visitor_view,
)
from tests.unit.features.strategies import START, event, interactions


@given(st.lists(interactions(), max_size=40), st.randoms(use_true_random=False))
def test_fold_gives_the_same_state_in_any_order_of_arrival(
    events: list[Interaction], chance: random.Random
) -> None:
    shuffled = events.copy()
    chance.shuffle(shuffled)
    assert fold_all(None, shuffled) == fold_all(None, events)


@given(st.lists(interactions(), min_size=1, max_size=30), st.integers(0, 30))
def test_fold_gives_the_same_state_however_it_is_split(events: list[Interaction], cut: int) -> None:
    together = fold_all(None, events)
    assert fold_all(fold_all(None, events[:cut]), events[cut:]) == together
    one_by_one: VisitorState | None = None
    for each in events:
        one_by_one = fold_all(one_by_one, [each])
    assert one_by_one == together


@given(st.permutations(range(SEQUENCE_LENGTH + 30)))
def test_sequence_keeps_the_newest_whatever_arrives_last(order: list[int]) -> None:
    state = fold_all(None, [event(START + number, f"i{number}") for number in order])
    assert [entry.item_id for entry in state.sequence] == [
        f"i{number}" for number in range(30, SEQUENCE_LENGTH + 30)
    ]
    assert state.counts == {"view": SEQUENCE_LENGTH + 30}
    assert (state.first_seen, state.last_seen) == (START, START + SEQUENCE_LENGTH + 29)


def test_fold_leaves_the_given_state_as_it_was() -> None:
    state = fold_all(None, [event(START)])
    fold_all(state, [event(START + 1, "b", "cart")])
    assert state == VisitorState(
        [SequenceEvent("a", "view", START, None)],
        {"view": 1},
        START,
        START,
        {},
        {"view": START},
        is_user=True,
    )


def test_who_only_sent_events_as_anonymous_has_not_been_a_user() -> None:
    anonymous = event(START).model_copy(update={"anonymous_id": "u"})
    as_user = event(START).model_copy(update={"anonymous_id": "a"})
    assert not fold_all(None, [anonymous]).is_user
    assert fold_all(None, [as_user, anonymous]).is_user
    both = (fold_all(None, [anonymous]), fold_all(None, [as_user]))
    assert join(*both).is_user and join(*reversed(both)).is_user
    assert join(VisitorState(is_user=True), both[0]).is_user


def test_events_without_item_or_signal_are_counted_but_not_in_the_sequence() -> None:
    state = fold_all(
        None,
        [
            event(START, None, "search"),
            event(START, "a", "impression"),
            event(START, "a", "remove"),
        ],
    )
    assert state.sequence == []
    assert state.counts == {"search": 1, "impression": 1, "remove": 1}


def test_features_of_a_visitor_never_seen_are_the_declared_defaults() -> None:
    assert visitor_features(None, START) == {
        f.name: f.default for f in VISITOR.fields if f.name in VISITOR.numbers
    }


def test_windows_end_at_the_asked_moment_and_leave_out_what_comes_later() -> None:
    now = START + 30 * DAY_MS
    ages = (-1, 0, HOUR_MS - 1, HOUR_MS, DAY_MS - 1, DAY_MS, 7 * DAY_MS - 1, 7 * DAY_MS)
    state = fold_all(None, [event(now - age, f"i{age}") for age in ages])
    features = visitor_features(state, now)
    assert (features["events_1h"], features["events_1d"], features["events_7d"]) == (2, 4, 6)
    assert (
        features["history_length"]
        == features["distinct_items"]
        == features["views"]
        == len(ages) - 1
    )


def test_features_count_types_items_and_the_time_since_the_last_event() -> None:
    state = fold_all(None, [event(START), event(START + 1), event(START + 2, "b", "purchase")])
    features = visitor_features(state, START + 2 + HOUR_MS // 2)
    assert tuple(features) == VISITOR.numbers
    assert (features["views"], features["purchases"], features["distinct_items"]) == (2, 1, 2)
    assert features["hours_since_last"] == 0.5


WINDOWS = {
    "1h": (HOUR_MS, 0, 12),
    "1d": (DAY_MS, 1, 24),
    "7d": (7 * DAY_MS, 2, 7),
    "30d": (30 * DAY_MS, 2, 30),
}
TYPES = {
    "views": "view",
    "clicks": "click",
    "carts": "cart",
    "purchases": "purchase",
    "impressions": "impression",
}
# More than a sequence holds, so that some have to be counted in tiles.
MANY = st.lists(interactions(), min_size=1, max_size=12).flatmap(
    lambda few: st.integers(1, 16).map(
        lambda times: [
            each.model_copy(update={"timestamp": each.timestamp + number * 7_777_777})
            for number in range(times)
            for each in few
        ]
    )
)


@settings(max_examples=40, deadline=None)
@given(MANY, st.randoms(use_true_random=False), st.integers(0, 3 * DAY_MS))
def test_windows_count_every_event_in_whatever_order_they_come(
    events: list[Interaction], chance: random.Random, later: int
) -> None:
    shuffled = events.copy()
    chance.shuffle(shuffled)
    state = fold_all(None, shuffled)
    assert state == fold_all(None, events)
    now = state.last_seen + later
    features = visitor_features(state, now)
    signals = [
        each
        for each in events
        if each.item_id is not None and each.event_type not in WITHOUT_SIGNAL
    ]
    signals.sort(
        key=lambda each: (
            each.timestamp,
            each.item_id,
            each.event_type,
            -1e9 if each.value is None else each.value,
        )
    )
    exact = {id(each) for each in signals[-SEQUENCE_LENGTH:]}
    for span, (length, size, tiles) in WINDOWS.items():
        tile = TILE_SIZES[size].ms
        inside = [
            each.event_type
            for each in events
            if (
                each.timestamp > now - length
                if id(each) in exact
                else each.timestamp // tile > now // tile - tiles
            )
        ]
        assert features[f"events_{span}"] == sum(kind != IMPRESSION for kind in inside)
        for name, kind in TYPES.items():
            assert features[f"{name}_{span}"] == inside.count(kind), (name, span)


@settings(max_examples=40, deadline=None)
@given(MANY, MANY)
def test_joined_state_is_that_of_all_events(
    events: list[Interaction], other: list[Interaction]
) -> None:
    assert join(fold_all(None, events), fold_all(None, other)) == fold_all(None, events + other)


def test_joining_with_nobody_changes_nothing() -> None:
    state = fold_all(None, [event(START)])
    assert join(state, VisitorState()) == join(VisitorState(), state) == state


@settings(max_examples=40, deadline=None)
@given(MANY, st.floats(0, 1))
def test_an_earlier_moment_sees_nothing_of_what_came_after_it(
    events: list[Interaction], share: float
) -> None:
    state = fold_all(None, events)
    now = state.first_seen + int((state.last_seen - state.first_seen) * share)
    earlier = [each for each in events if each.timestamp <= now]
    seen, due = visitor_features(state, now), visitor_features(fold_all(None, earlier), now)
    for name in (name for name in due if not name.startswith("hours")):
        assert seen[name] <= due[name], name
    if not state.tiles:
        assert seen == due
    assert all(seen[name] >= 0 or seen[name] == -1 for name in seen)


def test_windows_of_an_earlier_moment_begin_where_those_of_now_do() -> None:
    ages = (30 * DAY_MS, 29 * DAY_MS, 0)
    state = fold_all(None, [event(START - age, None, "search") for age in ages])
    assert visitor_features(state, START)["events_30d"] == 2
    ahead = fold_all(state, [event(START + DAY_MS, None, "search")])
    assert visitor_features(ahead, START)["events_30d"] == 1  # without the day that goes on


def test_counts_ever_leave_out_later_events_whose_tile_is_gone() -> None:
    newest = START + TILE_SIZES[2].kept * DAY_MS
    later = [
        *(event(START + 1 + n, None, "search") for n in range(4)),
        event(newest, None, "search"),
    ]
    state = fold_all(None, [event(START), event(START, None, "search"), *later])
    assert state.tiles[2].newest - START // DAY_MS == TILE_SIZES[2].kept
    features = visitor_features(state, START)
    assert (features["events"], features["views"], features["impressions"]) == (1, 1, 0)


@given(st.lists(interactions(), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_an_event_that_is_a_day_late_counts_in_every_window(
    events: list[Interaction], chance: random.Random
) -> None:
    newest = max(each.timestamp for each in events)
    late = [each for each in events if each.timestamp < newest - HOUR_MS]
    in_time = [each for each in events if each.timestamp >= newest - HOUR_MS]
    chance.shuffle(late)
    assert visitor_features(fold_all(fold_all(None, in_time), late), newest) == visitor_features(
        fold_all(None, events), newest
    )


def test_impressions_and_searches_count_in_their_windows_without_a_place_in_the_sequence() -> None:
    now = START // DAY_MS * DAY_MS + DAY_MS - 1
    made = [
        event(now - age, "a", kind)
        for age in (0, HOUR_MS, DAY_MS)
        for kind in ("impression", "search")
    ]
    features = visitor_features(fold_all(None, made), now)
    assert [features[f"impressions_{span}"] for span in WINDOWS] == [1, 2, 3, 3]
    assert [features[f"events_{span}"] for span in WINDOWS] == [1, 2, 3, 3]
    assert (features["impressions"], features["events"], features["history_length"]) == (3, 3, 0)


def test_recency_by_type_is_known_of_events_that_left_the_sequence() -> None:
    state = fold_all(
        None, [event(START, "a", "purchase"), *(event(START + number) for number in range(1, 120))]
    )
    assert all(entry.event_type == "view" for entry in state.sequence)
    features = visitor_features(state, START + HOUR_MS)
    assert (features["hours_since_purchase"], features["hours_since_cart"]) == (1.0, -1.0)


def test_the_lists_of_the_view_are_the_sequence_up_to_the_asked_moment() -> None:
    state = fold_all(
        None, [event(START, "a"), event(START + 1, "b", "cart"), event(START + 5, "c")]
    )
    assert visitor_view(
        state, START + 1, ["recent_items", "recent_types", "recent_times", "views"]
    ) == {
        "recent_items": ["a", "b"],
        "recent_types": ["view", "cart"],
        "recent_times": [START, START + 1],
        "views": 1.0,
    }
    assert visitor_view(None, START, VISITOR.feature_names) == {
        f.name: list(f.default) if f.default == () else f.default for f in VISITOR.fields
    }


def shown(chance: random.Random) -> Interaction:
    """An impression, often at the moment of others and of the same item."""
    return event(START + chance.randrange(300), chance.choice("abcü"), "impression")


def folded(parts: list[list[Interaction]]) -> VisitorState:
    state = VisitorState()
    for part in parts:
        state = fold_all(state, part)
    return state


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3 * IMPRESSIONS_KEPT), st.integers(1, 40), st.integers())
def test_the_newest_impressions_are_kept_in_whatever_order_and_parts_they_come(
    count: int, size: int, seed: int
) -> None:
    chance = random.Random(seed)
    made = [shown(chance) for _ in range(count)]
    due = sorted((each.timestamp, each.item_id) for each in made)[-IMPRESSIONS_KEPT:]
    parts = [made[start : start + size] for start in range(0, count, size)]
    assert folded(parts).impressions == due
    cut = chance.randrange(len(parts) + 1)
    one, other = folded(parts[:cut]), folded(parts[cut:])
    assert join(one, other).impressions == join(other, one).impressions == due


def test_other_events_leave_the_impressions_alone() -> None:
    before = fold_all(None, [event(START, "a", "impression")])
    others = [
        event(START + 1, "a"),
        event(START + 2, None, "impression"),
        event(START, "b", "remove"),
    ]
    assert fold_all(before, others).impressions is before.impressions


def test_fold_of_impressions_leaves_the_given_state_as_it_was() -> None:
    before = fold_all(None, [event(START + 1, "a", "impression")])
    after = fold_all(before, [event(START, "b", "impression")])
    assert before.impressions == [(START + 1, "a")]
    assert after.impressions == [(START, "b"), (START + 1, "a")]
