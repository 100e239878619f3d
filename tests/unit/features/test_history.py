"""Rebuilt states are those that the stream left, whoever folds the history."""

import random

from hypothesis import example, given
from hypothesis import strategies as st

from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.times import DAY_MS
from slipstream.features import history, item, visitor
from slipstream.features.history import StreamCovisit
from slipstream.features.identity import Link, taken_in
from slipstream.features.visitor import VisitorState
from tests.unit.features.placed_events import START, by_visitor, histories, placed


@given(histories(sources=2), st.randoms(use_true_random=False))
def test_rebuilt_states_are_what_the_stream_left(
    records: list[StreamInteraction], chance: random.Random
) -> None:
    """Records as logs give them: each source in its order, sources mixed as they were received."""
    arrived = history.in_order_of_arrival(records)
    streamed: list[StreamCovisit] = []
    streamed_states: dict[str, VisitorState] = {}
    for record in arrived:
        user_id = record.interaction.user_id
        [made] = visitor.pairs(streamed_states.get(user_id), [record.interaction])
        streamed += [StreamCovisit(record.source, record.offset, pair) for pair in made]
        state = visitor.fold_all(streamed_states.get(user_id), [record.interaction])
        state.applied = {**state.applied, record.source: record.offset}
        streamed_states[user_id] = state
    rebuilt: list[StreamCovisit] = []
    for user_id, theirs in by_visitor(chance.sample(records, len(records))).items():
        arrived_theirs = history.in_order_of_arrival(theirs)
        assert history.visitor_state(user_id, arrived_theirs) == streamed_states[user_id]
        rebuilt += history.covisits(user_id, arrived_theirs)
    assert sorted(rebuilt) == sorted(streamed)
    its = [record for record in records if record.interaction.item_id == "a"]
    pairs = [each for each in streamed if each.pair.item_id == "a"]
    state = history.item_state(its, pairs)
    assert state.counts == item.fold_all(None, [record.interaction for record in its]).counts
    assert state.applied == {
        source: max(r.offset for r in (*its, *pairs) if r.source == source)
        for source in {r.source for r in (*its, *pairs)}
    }


@given(histories(), st.integers(0, 30))
@example([placed(0, START, user="v"), placed(1, START + 1), placed(2, START + 2)], 1)
@example([placed(0, START), placed(1, START + 1, user="v"), placed(2, START + 2)], 2)
def test_a_merged_visitor_is_rebuilt_as_the_stream_merged_it(
    records: list[StreamInteraction], at: int
) -> None:
    """u came as v until the link, which took v's state in. Later records of v went into u."""
    arrived = [
        record._replace(
            interaction=record.interaction.model_copy(
                update={"received_at": START + 3 * DAY_MS + number}
            )
        )
        for number, record in enumerate(records)
    ]
    at = min(at, len(arrived))
    states: dict[str, VisitorState] = {}
    streamed: list[StreamCovisit] = []

    def take(record: StreamInteraction, into: str) -> None:
        [made] = visitor.pairs(states.get(into), [record.interaction])
        streamed.extend(StreamCovisit(record.source, record.offset, pair) for pair in made)
        states[into] = visitor.fold_all(states.get(into), [record.interaction])

    for record in arrived[:at]:
        take(record, record.interaction.user_id)
    if "v" in states:
        states["u"] = taken_in(states.get("u"), "v", states.pop("v"))
    for record in arrived[at:]:
        take(record, "u")
    when = (
        arrived[at].interaction.received_at
        if at < len(arrived)
        else arrived[-1].interaction.received_at + 1
    )
    rebuilt = history.visitor_state("u", arrived)
    assert (rebuilt.sequence, rebuilt.counts, rebuilt.tiles) == (
        states["u"].sequence,
        states["u"].counts,
        states["u"].tiles,
    )
    assert rebuilt.merged.keys() == {r.interaction.user_id for r in arrived} - {"u"}
    assert sorted(history.covisits("u", arrived, [Link("v", "u", "c", 0, when)])) == sorted(
        streamed
    )


def test_sources_are_ordered_by_their_offsets_even_where_the_clock_went_back() -> None:
    records = [
        placed(0, START, received=50),
        placed(1, START, received=10),
        placed(0, START, received=20, source="t:1"),
    ]
    assert [(r.source, r.offset) for r in history.in_order_of_arrival(records)] == [
        ("t:1", 0),
        ("t:0", 0),
        ("t:0", 1),
    ]
