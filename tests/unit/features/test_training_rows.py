"""Training rows know what was before their event and nothing else, in whatever order it came."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features import item, training_rows, visitor
from slipstream.features.item import ItemState, item_features
from slipstream.features.request import (
    RequestContext,
    affinity_features,
    request_features,
    session_features,
)
from slipstream.features.training_rows import AttributeHistory, rows_between
from slipstream.features.views import VISITOR
from slipstream.features.visitor import VisitorState, visitor_view
from tests.unit.features.placed_events import START, by_visitor, histories, like, placed

CATALOGUE = AttributeHistory(
    [
        ("a", START, {"category": "shoes", "price": 10}),
        ("a", START + DAY_MS, {"category": "boots", "price": 12}),
        ("b", START + 9 * DAY_MS, {"category": "hats", "price": 99}),
    ]
)
EVERY = rows_between()


def streamed(
    records: list[StreamInteraction], of: StreamInteraction, chance: random.Random
) -> dict[str, Any]:
    """The online features just before an event, after all earlier events in a random order."""
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


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_rows_are_what_the_stream_would_have_served(
    records: list[StreamInteraction], chance: random.Random
) -> None:
    chance.shuffle(records)
    rows = training_rows.training_rows(by_visitor(records), EVERY, CATALOGUE)
    asked = {record.offset: record for record in records if record.interaction.item_id is not None}
    assert sorted(row["offset"] for row in rows) == sorted(asked)
    for row in rows:
        due = streamed(records, asked[row["offset"]], chance)
        assert list(row)[len(training_rows.EVENT_COLUMNS) :] == list(
            training_rows.feature_columns()
        )
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
    features = training_rows.feature_columns()

    def rows_until_cut(of: list[StreamInteraction]) -> dict[int, dict[str, Any]]:
        rows = training_rows.training_rows(by_visitor(of), EVERY, CATALOGUE)
        return {
            row["offset"]: {name: row[name] for name in features}
            for row in rows
            if row["timestamp"] <= cut
        }

    before, after = rows_until_cut(records), rows_until_cut(changed)
    assert before == {offset: after[offset] for offset in before}


def test_attributes_are_those_known_before_the_moment_or_else_the_first() -> None:
    assert CATALOGUE.before(START + 1)["a"]["category"] == "shoes"
    assert CATALOGUE.before(START + DAY_MS)["a"]["category"] == "shoes"
    assert CATALOGUE.before(START + DAY_MS + 1)["a"]["category"] == "boots"
    assert CATALOGUE.before(START)["b"]["category"] == "hats"
    assert CATALOGUE.before(START).get("c") is None


def test_a_window_chooses_rows_and_not_what_they_count() -> None:
    records = [placed(n, START + n * HOUR_MS) for n in range(5)]
    rows = training_rows.training_rows(
        {"u": records}, rows_between(START + 3 * HOUR_MS, START + 4 * HOUR_MS)
    )
    assert [(row["offset"], row["visitor__history_length"]) for row in rows] == [(3, 3.0)]


def test_like_tells_floats_apart_from_rounding() -> None:
    assert like(1.0, 1.0 + 1e-12) and not like(1.0, 1.1)
