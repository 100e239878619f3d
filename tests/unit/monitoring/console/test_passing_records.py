"""Records as Live shows them: what they can be chosen by, and values of every kind."""

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.monitoring.console.passing_records import (
    MALFORMED,
    MOST_BYTES,
    WATCHED,
    Choice,
    passing,
)
from slipstream.broker.tail import TailRecord
from slipstream.contracts.topics import (
    ACCESS_KEYS,
    ALERTS,
    CATALOG,
    DEAD_LETTERS,
    FEATURE_UPDATES,
    INTERACTIONS,
    PEOPLE,
    PLACEMENTS,
    RECOMMENDATIONS,
    TOPICS,
    Topic,
)


def on(topic: Topic, value: Any) -> TailRecord:
    raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
    return TailRecord(topic, 3, 17, 1_700_000_000_000, "rid", raw)


ROWS = [
    (
        INTERACTIONS,
        {"event_type": "click", "user_id": "ada", "item_id": "a"},
        {"kind": "click", "visitor": "ada", "item": "a"},
    ),
    (
        RECOMMENDATIONS,
        {"user_id": "ada", "items": [{"item_id": "a"}, {"item_id": "b"}], "placement": "home"},
        {"kind": "slate", "visitor": "ada", "item": None, "placement": "home"},
    ),
    (RECOMMENDATIONS, {"user_id": "ada", "purpose": "shadow"}, {"kind": "shadow_slate"}),
    (CATALOG, {"entity": "item_patch", "entity_id": "a"}, {"kind": "item_patch", "item": "a"}),
    (PEOPLE, {"entity": "user", "entity_id": "ada"}, {"kind": "user", "visitor": "ada"}),
    (
        DEAD_LETTERS,
        {"code": "bad_id", "original": {"userId": "ada", "properties": {"product_id": "a"}}},
        {"kind": "dead_letter", "code": "bad_id", "visitor": "ada", "item": "a"},
    ),
    (DEAD_LETTERS, {"code": "no_json", "original": "<p>"}, {"code": "no_json", "visitor": None}),
    (FEATURE_UPDATES, {"view": "item", "entity_id": "a"}, {"item": "a", "visitor": None}),
    (FEATURE_UPDATES, {"view": "visitor", "entity_id": "ada"}, {"visitor": "ada", "item": None}),
    (ALERTS, {"rule": "drift"}, {"kind": "alert", "code": "drift"}),
    (PLACEMENTS, {"name": "home"}, {"kind": "placement", "placement": "home"}),
    (INTERACTIONS, None, {"kind": "tombstone", "value": None}),
    (INTERACTIONS, b"{broken", {"kind": MALFORMED, "value": None, "bytes": 7}),
]


@pytest.mark.parametrize(("topic", "value", "told"), ROWS)
def test_a_record_is_shown_with_its_place_and_what_it_is_about(
    topic: Topic, value: Any, told: dict[str, Any]
) -> None:
    shown = orjson.loads(passing(on(topic, value)).to_json())
    assert {name: shown[name] for name in told} == told
    assert (shown["topic"], shown["partition"], shown["offset"]) == (topic.name, 3, 17)
    assert (shown["at"], shown["request_id"]) == (1_700_000_000_000, "rid")
    if isinstance(value, dict):
        assert shown["value"] == value


def test_records_of_keys_can_not_be_watched() -> None:
    assert ACCESS_KEYS.name not in WATCHED
    assert len(WATCHED) == len(TOPICS) - 2


def test_a_very_large_record_is_told_without_its_value() -> None:
    large = passing(on(CATALOG, {"entity": "item", "entity_id": "a", "x": "y" * MOST_BYTES}))
    shown = orjson.loads(large.to_json())
    assert (shown["value"], shown["item"]) == (None, "a")
    assert shown["bytes"] > MOST_BYTES


def test_a_choice_takes_what_has_all_that_it_names() -> None:
    slate = passing(on(*ROWS[1][:2]))
    for chosen in (
        Choice(),
        Choice(topic=RECOMMENDATIONS.name, kind="slate", visitor="ada", placement="home"),
        Choice(item="b"),
    ):
        assert chosen.takes(slate)
    for other in (
        Choice(topic=INTERACTIONS.name),
        Choice(kind="click"),
        Choice(visitor="bob", item="a"),
        Choice(item="c"),
        Choice(placement="cart"),
        Choice(code="x"),
    ):
        assert not other.takes(slate)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "user_id",
                    "item_id",
                    "items",
                    "original",
                    "properties",
                    "entity",
                    "entity_id",
                    "code",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@example("recommendations.v1", {"items": True})
@given(st.sampled_from(list(WATCHED)), anything | st.binary(max_size=20))
def test_whatever_stands_on_a_topic_can_be_shown(name: str, value: Any) -> None:
    shown = orjson.loads(passing(on(WATCHED[name], value)).to_json())
    assert shown["topic"] == name
    assert all(
        shown[field] is None or isinstance(shown[field], str) for field in ("visitor", "item")
    )
