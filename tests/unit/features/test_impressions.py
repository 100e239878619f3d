import random

from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.features.impressions import IMPRESSIONS_KEPT
from slipstream.features.visitor import VisitorState, fold_all, join
from tests.unit.features.strategies import START, event


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
