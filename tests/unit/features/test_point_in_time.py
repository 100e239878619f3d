"""Features of the events before a moment are those that the stream had at that moment."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.features.item import fold_all as fold_item
from slipstream.features.item import item_features, neighbour_features
from slipstream.features.request import (
    RequestContext,
    affinity_features,
    request_features,
    session_features,
)
from slipstream.features.views import VISITOR
from slipstream.features.visitor import VisitorState, fold_all, pairs, visitor_view
from slipstream.stores import layout
from tests.unit.features.strategies import interactions

ITEMS: dict[str, dict[str, Any]] = {
    "a": {"category": "shoes", "price": 5},
    "b": {"category": "wool", "price": "7.5"},
    "c:1": {"category": ["wool", "hats"]},
}


def everything(state: VisitorState | None, now: int) -> dict[str, Any]:
    """All features of a visitor at a moment."""
    return {
        **visitor_view(state, now, VISITOR.feature_names),
        "session": session_features(state, now),
        "affinity": affinity_features(state.sequence if state else [], ITEMS, now, ["category"]),
        "request": request_features(RequestContext(now, "a"), state, ITEMS, "category"),
    }


@given(
    st.lists(interactions(), min_size=2, max_size=25), st.data(), st.randoms(use_true_random=False)
)
@settings(max_examples=60)
def test_rows_of_earlier_events_equal_the_stream_at_that_moment(
    events: list[Interaction], data: st.DataObject, chance: random.Random
) -> None:
    asked = data.draw(st.sampled_from(events)).timestamp
    earlier = [each for each in events if each.timestamp < asked]
    row = everything(fold_all(None, sorted(earlier, key=lambda each: each.timestamp)), asked)
    chance.shuffle(earlier)
    streamed: VisitorState | None = None
    for each in earlier:  # as the consumer does: read, fold, written
        streamed = layout.decode_visitor(
            layout.encode_visitor(fold_all(streamed, [each]), b"revision")
        )
    assert everything(streamed, asked) == row


@given(st.lists(interactions(), min_size=2, max_size=25), st.data())
@settings(max_examples=60)
def test_no_feature_changes_with_what_happens_after_the_moment(
    events: list[Interaction], data: st.DataObject
) -> None:
    events = [each for each in events if each.event_type not in ("search", "impression")]
    if not events:
        return
    now = data.draw(st.sampled_from(events)).timestamp
    until = [each for each in events if each.timestamp <= now]
    assert everything(fold_all(None, events), now) == everything(fold_all(None, until), now)


@given(st.lists(interactions(), min_size=2, max_size=25), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_items_and_their_pairs_are_the_same_after_a_restart_at_any_point(
    events: list[Interaction], chance: random.Random
) -> None:
    cut = chance.randrange(len(events))
    now = max(each.timestamp for each in events)
    before = fold_all(None, events[:cut])
    again = layout.decode_visitor(layout.encode_visitor(before, b"revision"))
    whole_pairs = [pair for made in pairs(None, events) for pair in made if pair.item_id == "a"]
    parts_pairs = [
        pair
        for made in pairs(None, events[:cut]) + pairs(again, events[cut:])
        for pair in made
        if pair.item_id == "a"
    ]
    assert parts_pairs == whole_pairs
    events_on_item = [each for each in events if each.item_id == "a"]
    whole = fold_item(None, events_on_item, whole_pairs)
    stored = layout.decode_item(
        layout.encode_item(
            fold_item(None, events_on_item[: cut // 2], whole_pairs[:cut]), b"revision"
        )
    )
    parts = fold_item(stored, events_on_item[cut // 2 :], whole_pairs[cut:])
    assert (
        neighbour_features(parts, now)["neighbours"] == neighbour_features(whole, now)["neighbours"]
    )
    in_parts, at_once = item_features(parts, now), item_features(whole, now)
    assert {name: round(value, 6) for name, value in in_parts.items()} == {
        name: round(value, 6) for name, value in at_once.items()
    }
