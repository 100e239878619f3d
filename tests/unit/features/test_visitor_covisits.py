import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.features.visitor import PARTNERS, WINDOW_MS, Covisit, fold_all, pairs
from tests.unit.features.strategies import START, event


def pairs_of(*events: Interaction) -> list[Covisit]:
    return [pair for made in pairs(None, events) for pair in made]


def test_a_pair_is_told_to_both_items_when_its_second_event_arrives() -> None:
    assert pairs(None, [event(START, "a"), event(START + WINDOW_MS, "b")]) == [
        [],
        [Covisit("b", "a", START + WINDOW_MS), Covisit("a", "b", START + WINDOW_MS)],
    ]
    assert pairs_of(event(START, "a"), event(START + WINDOW_MS + 1, "b")) == []


def test_a_late_event_makes_the_pairs_that_it_would_have_made_in_time() -> None:
    early, late = event(START, "a"), event(START + 5, "b")
    assert Counter(pairs_of(late, early)) == Counter(pairs_of(early, late))


def test_coming_back_to_an_item_is_no_second_visit() -> None:
    assert (
        len(
            pairs_of(
                event(START, "a"),
                event(START + 1, "b"),
                event(START + 2, "a", "cart"),
                event(START + 3, "b", "purchase"),
            )
        )
        == 2
    )
    assert (
        len(
            pairs_of(
                event(START, "a"),
                event(START + 1, "b"),
                event(START + 10 * WINDOW_MS, "a"),
                event(START + 10 * WINDOW_MS, "b"),
            )
        )
        == 4
    )


def test_events_without_item_or_signal_make_no_pairs() -> None:
    assert (
        pairs_of(
            event(START, "a"),
            event(START, None, "search"),
            event(START, "b", "impression"),
            event(START, "a"),
        )
        == []
    )


def test_an_event_pairs_with_the_items_nearest_in_time() -> None:
    around = [event(START + number * 1000, f"i{number}") for number in range(20)]
    made = pairs(fold_all(None, around), [event(START + 10_400, "x")])[0]
    assert {pair.neighbour for pair in made if pair.item_id == "x"} == {"i9", "i10", "i11"}
    assert len(made) == 2 * PARTNERS


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 3 * WINDOW_MS)), min_size=1, max_size=30
    ),
    st.integers(0, 30),
    st.randoms(use_true_random=False),
)
def test_pairs_are_the_same_however_a_log_is_split(
    visits: list[tuple[str, int]], cut: int, chance: random.Random
) -> None:
    events = [event(START + at, item) for item, at in visits]
    chance.shuffle(events)
    before = fold_all(None, events[:cut])
    assert pairs(None, events[:cut]) + pairs(before, events[cut:]) == pairs(None, events)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 20 * WINDOW_MS)), max_size=20))
def test_pairs_are_of_two_items_in_both_directions_within_the_window(
    visits: list[tuple[str, int]],
) -> None:
    made = pairs_of(*(event(START + at, item) for item, at in visits))
    assert Counter((a, b, at) for a, b, at in made) == Counter((b, a, at) for a, b, at in made)
    assert all(a != b for a, b, _ in made)
