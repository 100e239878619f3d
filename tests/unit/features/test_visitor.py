import random

from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.features.views import VISITOR
from slipstream.features.visitor import (
    DAY_MS,
    HOUR_MS,
    SEQUENCE_LENGTH,
    SequenceEvent,
    VisitorState,
    fold,
    fold_all,
    visitor_features,
)
from tests.unit.features.strategies import START, interactions


def event(at: int, item: str | None = "a", kind: str = "view", value: float | None = None) -> Interaction:
    return Interaction(event_id="e", event_type=kind, user_id="u", item_id=item, timestamp=at, received_at=at, value=value)


@given(st.lists(interactions(), max_size=40), st.randoms(use_true_random=False))
def test_fold_gives_the_same_state_in_any_order_of_arrival(events: list[Interaction], chance: random.Random) -> None:
    shuffled = events.copy()
    chance.shuffle(shuffled)
    assert fold_all(None, shuffled) == fold_all(None, events)


@given(st.lists(interactions(), min_size=1, max_size=30), st.integers(0, 30))
def test_fold_gives_the_same_state_however_it_is_split(events: list[Interaction], cut: int) -> None:
    together = fold_all(None, events)
    assert fold_all(fold_all(None, events[:cut]), events[cut:]) == together
    one_by_one: VisitorState | None = None
    for each in events:
        one_by_one = fold(one_by_one, each)
    assert one_by_one == together


@given(st.permutations(range(SEQUENCE_LENGTH + 30)))
def test_sequence_keeps_the_newest_whatever_arrives_last(order: list[int]) -> None:
    state = fold_all(None, [event(START + number, f"i{number}") for number in order])
    assert [entry.item_id for entry in state.sequence] == [f"i{number}" for number in range(30, SEQUENCE_LENGTH + 30)]
    assert state.counts == {"view": SEQUENCE_LENGTH + 30}
    assert (state.first_seen, state.last_seen) == (START, START + SEQUENCE_LENGTH + 29)


def test_fold_leaves_the_given_state_as_it_was() -> None:
    state = fold(None, event(START))
    fold(state, event(START + 1, "b", "cart"))
    assert state == VisitorState([SequenceEvent("a", "view", START, None)], {"view": 1}, START, START, {}, {"view": START})


def test_events_without_item_or_signal_are_counted_but_not_in_the_sequence() -> None:
    state = fold_all(None, [event(START, None, "search"), event(START, "a", "impression"), event(START, "a", "remove")])
    assert state.sequence == []
    assert state.counts == {"search": 1, "impression": 1, "remove": 1}


def test_features_of_a_visitor_never_seen_are_the_declared_defaults() -> None:
    assert visitor_features(None, START) == {f.name: f.default for f in VISITOR.fields if f.name in VISITOR.numbers}


def test_windows_end_at_the_asked_moment_and_leave_out_what_comes_later() -> None:
    now = START + 30 * DAY_MS
    ages = (-1, 0, HOUR_MS - 1, HOUR_MS, DAY_MS - 1, DAY_MS, 7 * DAY_MS - 1, 7 * DAY_MS)
    state = fold_all(None, [event(now - age, f"i{age}") for age in ages])
    features = visitor_features(state, now)
    assert (features["events_1h"], features["events_1d"], features["events_7d"]) == (2, 4, 6)
    assert features["history_length"] == features["distinct_items"] == features["views"] == len(ages) - 1


def test_features_count_types_items_and_the_time_since_the_last_event() -> None:
    state = fold_all(None, [event(START), event(START + 1), event(START + 2, "b", "purchase")])
    features = visitor_features(state, START + 2 + HOUR_MS // 2)
    assert tuple(features) == VISITOR.numbers
    assert (features["views"], features["purchases"], features["distinct_items"]) == (2, 1, 2)
    assert features["hours_since_last"] == 0.5
