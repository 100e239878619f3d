"""Training rows know what was before their event and nothing else, whoever folds the history and in
whatever order it came.
"""

import random
from math import isclose
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features import covisits, history, item, visitor
from slipstream.features.affinity import affinity_features
from slipstream.features.history import Catalogue, Covisited, asks_for
from slipstream.features.identity import Link, taken_in
from slipstream.features.item import ItemState, item_features
from slipstream.features.request import RequestContext, request_features
from slipstream.features.session import session_features
from slipstream.features.views import VISITOR
from slipstream.features.visitor import VisitorState, visitor_view
from tests.unit.features.placed_events import START, histories, like, placed

CATALOGUE = Catalogue(
    [
        ("a", START, {"category": "shoes", "price": 10}),
        ("a", START + DAY_MS, {"category": "boots", "price": 12}),
        ("b", START + 9 * DAY_MS, {"category": "hats", "price": 99}),
    ]
)
EVERY = asks_for()


def streamed(
    records: list[StreamInteraction], of: StreamInteraction, chance: random.Random
) -> dict[str, Any]:
    """What the online functions say just before an event of its visitor and item, had all that was
    before come in some order.
    """
    now_ms = of.interaction.timestamp
    before = [record for record in records if record.interaction.timestamp < now_ms]
    chance.shuffle(before)
    mine: VisitorState | None = None
    its: ItemState | None = None
    for record in before:
        if record.interaction.user_id == of.interaction.user_id:
            mine = visitor.fold_all(mine, [record.interaction])
        if record.interaction.item_id == of.interaction.item_id:
            its = item.fold_all(its, [record.interaction])
    known = CATALOGUE.before(now_ms)
    sequence = mine.sequence if mine else []
    views = {
        "visitor": visitor_view(mine, now_ms, VISITOR.feature_names),
        "session": session_features(mine, now_ms),
        "visitor_affinity": affinity_features(sequence, known, now_ms, ("category", "brand")),
        "request": request_features(
            RequestContext(now_ms, of.interaction.item_id or ""), mine, known, "category"
        ),
        "item": item_features(its, now_ms),
    }
    return {
        f"{view}__{name}": value
        for view, features in views.items()
        for name, value in features.items()
    }


def by_visitor(records: list[StreamInteraction]) -> dict[str, list[StreamInteraction]]:
    groups: dict[str, list[StreamInteraction]] = {}
    for record in records:
        groups.setdefault(record.interaction.user_id, []).append(record)
    return groups


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_rows_are_what_the_stream_would_have_served(
    records: list[StreamInteraction], chance: random.Random
) -> None:
    chance.shuffle(records)
    rows = history.training_rows(by_visitor(records), EVERY, CATALOGUE)
    asked = {record.offset: record for record in records if record.interaction.item_id is not None}
    assert sorted(row["offset"] for row in rows) == sorted(asked)
    for row in rows:
        due = streamed(records, asked[row["offset"]], chance)
        assert list(row)[len(history.EVENT_COLUMNS) :] == list(history.feature_columns())
        for name, value in due.items():
            assert like(row[name], value), name


@given(histories(), st.randoms(use_true_random=False), st.data())
@settings(max_examples=40)
def test_rows_do_not_know_their_label_or_anything_later(
    records: list[StreamInteraction], chance: random.Random, data: st.DataObject
) -> None:
    cut = data.draw(st.sampled_from([record.interaction.timestamp for record in records]))
    changed = []
    for record in records:
        event = record.interaction
        if event.timestamp >= cut:
            kind = chance.choice(["purchase", "cart", "impression"])
            at = event.timestamp + (event.timestamp > cut) * chance.randrange(DAY_MS)
            event = event.model_copy(update={"event_type": kind, "value": 7.0, "timestamp": at})
        changed.append(record._replace(interaction=event))
    features = history.feature_columns()

    def told(of: list[StreamInteraction]) -> dict[int, dict[str, Any]]:
        rows = history.training_rows(by_visitor(of), EVERY, CATALOGUE)
        return {
            row["offset"]: {name: row[name] for name in features}
            for row in rows
            if row["timestamp"] <= cut
        }

    before, after = told(records), told(changed)
    assert before == {offset: after[offset] for offset in before}


@given(histories(sources=2), st.randoms(use_true_random=False))
def test_rebuilt_states_are_what_the_stream_left(
    records: list[StreamInteraction], chance: random.Random
) -> None:
    """Records as logs give them: each source in its order, sources mixed as they were received."""
    arrived = history.in_order_of_arrival(records)
    told: list[Covisited] = []
    streamed_states: dict[str, VisitorState] = {}
    for record in arrived:
        user_id = record.interaction.user_id
        [made] = covisits.pairs(streamed_states.get(user_id), [record.interaction])
        told += [Covisited(record.source, record.offset, pair) for pair in made]
        state = visitor.fold_all(streamed_states.get(user_id), [record.interaction])
        state.applied = {**state.applied, record.source: record.offset}
        streamed_states[user_id] = state
    rebuilt: list[Covisited] = []
    for user_id, theirs in by_visitor(chance.sample(records, len(records))).items():
        arrived_theirs = history.in_order_of_arrival(theirs)
        assert history.visitor_state(user_id, arrived_theirs) == streamed_states[user_id]
        rebuilt += history.covisits(user_id, arrived_theirs)
    assert sorted(rebuilt) == sorted(told)
    its = [record for record in records if record.interaction.item_id == "a"]
    pairs = [each for each in told if each.pair.item_id == "a"]
    state = history.item_state(its, pairs)
    assert state.counts == item.fold_all(None, [record.interaction for record in its]).counts
    assert state.applied == {
        source: max(r.offset for r in (*its, *pairs) if r.source == source)
        for source in {r.source for r in (*its, *pairs)}
    }


@given(histories(), st.integers(0, 30))
def test_a_merged_visitor_is_rebuilt_as_the_stream_merged_it(
    records: list[StreamInteraction], at: int
) -> None:
    """u came as v until the link: v's state was taken in then, and what v did afterwards was folded
    into u.
    """
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
    told: list[Covisited] = []

    def take(record: StreamInteraction, into: str) -> None:
        [made] = covisits.pairs(states.get(into), [record.interaction])
        told.extend(Covisited(record.source, record.offset, pair) for pair in made)
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
    assert sorted(history.covisits("u", arrived, [Link("v", "u", "c", 0, when)])) == sorted(told)


def test_attributes_are_those_known_before_the_moment_or_else_the_first() -> None:
    assert CATALOGUE.before(START + 1)["a"]["category"] == "shoes"
    assert CATALOGUE.before(START + DAY_MS)["a"]["category"] == "shoes"
    assert CATALOGUE.before(START + DAY_MS + 1)["a"]["category"] == "boots"
    assert CATALOGUE.before(START)["b"]["category"] == "hats"
    assert CATALOGUE.before(START).get("c") is None


def test_a_window_chooses_rows_and_not_what_they_count() -> None:
    records = [placed(n, START + n * HOUR_MS) for n in range(5)]
    rows = history.training_rows({"u": records}, asks_for(START + 3 * HOUR_MS, START + 4 * HOUR_MS))
    assert [(row["offset"], row["visitor__history_length"]) for row in rows] == [(3, 3.0)]


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


def test_like_tells_floats_apart_from_rounding() -> None:
    assert like(1.0, 1.0 + 1e-12) and not like(1.0, 1.1) and isclose(1.0, 1.0)
    assert isinstance(placed(0, START).interaction, Interaction)
