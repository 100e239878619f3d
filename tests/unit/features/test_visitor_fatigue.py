import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.vocabulary import IMPRESSION, WITHOUT_SIGNAL
from slipstream.features.visitor import (
    IMPRESSIONS_KEPT,
    SEQUENCE_LENGTH,
    fold_all,
    fruitless_impressions,
)
from tests.unit.features.strategies import START, event


def shown(at: int, item: str = "a") -> Interaction:
    return event(START + at, item, IMPRESSION)


def fruitless(events: list[Interaction], now: int, window: int = DAY_MS) -> dict[str, int]:
    return fruitless_impressions(fold_all(None, events), START + now, window)


def test_impressions_are_counted_by_item() -> None:
    assert fruitless([shown(0), shown(1, "b"), shown(2), shown(2)], 5) == {"a": 3, "b": 1}
    assert fruitless_impressions(None, START, DAY_MS) == {}


@pytest.mark.parametrize("kind", ["view", "click", "cart", "rate", "custom_1"])
def test_a_response_ends_the_fatigue_and_later_impressions_count_anew(kind: str) -> None:
    until = [shown(0), shown(10), shown(10, "b"), event(START + 10, "a", kind)]
    assert fruitless(until, 20) == {"b": 1}
    assert fruitless([*until, shown(11)], 20) == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", sorted(WITHOUT_SIGNAL - {IMPRESSION}))
def test_events_without_signal_are_no_response(kind: str) -> None:
    assert fruitless([shown(0), event(START + 1, "a", kind)], 20) == {"a": 1}


def test_what_was_done_before_the_impression_is_no_response_to_it() -> None:
    assert fruitless([event(START, "a"), shown(1)], 20) == {"a": 1}


def test_the_window_ends_at_the_moment_and_what_comes_later_does_not_count() -> None:
    events = [shown(0), shown(1), shown(100), shown(101), event(START + 101, "a", "click")]
    assert fruitless(events, 100, window=100) == {"a": 2}
    assert fruitless(events, 100, window=99) == {"a": 1}
    assert fruitless(events, 101) == {}


def test_impressions_do_not_count_where_a_response_may_have_left_the_sequence() -> None:
    events = [shown(0, "b"), event(START, "b", "click"), shown(1, "c"), shown(200, "c")]
    # The oldest that is kept is of moment 2.
    events += [event(START + number, f"i{number}") for number in range(2, SEQUENCE_LENGTH + 2)]
    assert fruitless([*events, shown(2, "d"), shown(3, "e")], 300) == {"c": 1, "e": 1}


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 150),
    st.integers(0, 150),
    st.integers(0, 320),
    st.integers(1, 320),
    st.integers(),
)
def test_no_count_is_too_large_and_within_the_bounds_all_are_exact(
    impressions: int, responses: int, now: int, window: int, seed: int
) -> None:
    chance = random.Random(seed)
    kinds = ("impression",) * impressions + ("view",) * responses
    events = [event(START + chance.randrange(300), chance.choice("abcd"), kind) for kind in kinds]
    chance.shuffle(events)
    due = Counter(
        one.item_id
        for one in events
        if one.event_type == IMPRESSION
        and START + now - window < one.timestamp <= START + now
        and not any(
            other.event_type == "view"
            and other.item_id == one.item_id
            and one.timestamp <= other.timestamp <= START + now
            for other in events
        )
    )
    counted = Counter(fruitless(events, now, window))
    assert counted <= due
    if impressions <= IMPRESSIONS_KEPT and responses < SEQUENCE_LENGTH:
        assert counted == due
