"""Pushed rows become records, or are refused with their place and the reason.

The rules of single values are tested in `tests/unit/ingress/test_ingresses.py`.
"""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.features import pushes
from services.features.pushes import PushRules, RefusedRowsError, UnknownSourceError
from slipstream.broker.producer import OutgoingRecord
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.late_records import may_be_on_its_way
from slipstream.ingress.privacy import Privacy

NOW = 1_790_000_000_000
RULES = PushRules(Privacy(), max_ahead_ms=3_600_000, principal="robot", may_erase=True)
VIEWED = {"user_id": ["u"], "event_type": ["view"]}
COLUMNS = (
    "event_id",
    "user_id",
    "item_id",
    "event_type",
    "timestamp",
    "event_timestamp",
    "value",
    "position",
    "attributes",
    "deleted",
)


def push(source: str, **columns: list[Any]) -> list[OutgoingRecord]:
    return asyncio.run(pushes.records(source, columns, RULES, NOW, "request-1"))


def faults(source: str, **columns: list[Any]) -> list[tuple[str, str]]:
    with pytest.raises(RefusedRowsError) as refused:
        push(source, **columns)
    assert all(fault["reason"] for fault in refused.value.faults)
    return [(fault["field"], fault["code"]) for fault in refused.value.faults]


def test_interactions_take_the_fields_of_the_record_and_keep_the_rest_as_properties() -> None:
    made = push(
        "interactions",
        user_id=["u1", 7], event_type=["view", "purchase"], item_id=["i1", 12], value=[None, 9.5],
        event_id=["e1", None],
        event_timestamp=["2026-09-21T10:13:20", "2026-09-21T12:13:20.250+02:00"],
        position=[3, None], colour=["red", None],
        properties=[None, {"size": 42}],
    )  # fmt: skip
    assert [(out.topic.name, out.key, out.request_id) for out in made] == [
        ("interactions.v1", "u1", "request-1"),
        ("interactions.v1", "7", "request-1"),
    ]
    first, second = (out.record for out in made)
    assert isinstance(first, Interaction) and isinstance(second, Interaction)
    assert first == Interaction(
        event_id="e1", event_type="view", user_id="u1", item_id="i1", timestamp=1_789_985_600_000,
        received_at=NOW, position=3,
        source="push", properties={"colour": "red"}, maybe_repeat=True, imported=True,
    )  # fmt: skip
    assert (second.item_id, second.value, second.timestamp) == ("12", 9.5, 1_789_985_600_250)
    assert (second.properties, second.maybe_repeat, second.imported) == ({"size": 42}, False, True)
    assert second.event_id


def test_items_and_users_take_the_rest_as_attributes() -> None:
    made = push(
        "items",
        item_id=["i1", "i2"],
        price=[3.5, None],
        available=[None, False],
        attributes=[{"brand": "b"}, "{}"],
    )
    assert [(out.topic.name, out.key) for out in made] == [
        ("catalog.v1", "item:i1"),
        ("catalog.v1", "item:i2"),
    ]
    assert made[0].record == CatalogRecord(
        entity="item",
        entity_id="i1",
        attributes={"price": 3.5, "brand": "b"},
        timestamp=NOW,
        source="push",
    )
    assert made[1].record == CatalogRecord(
        entity="item", entity_id="i2", available=False, timestamp=NOW, source="push"
    )
    (erased,) = push("users", user_id=["u1"], deleted=[True], timestamp=[NOW - 5])
    assert isinstance(erased.record, CatalogRecord)
    assert may_be_on_its_way(erased.record.erasure_id, NOW)
    assert erased.record == CatalogRecord(
        entity="user",
        entity_id="u1",
        deleted=True,
        timestamp=NOW - 5,
        source="robot",
        client_time=True,
        erasure_id=erased.record.erasure_id,
    )


@pytest.mark.parametrize("deleted", [True, 1, "true"])
async def test_only_who_may_erase_deletes_a_user(deleted: Any) -> None:
    frame = {"user_id": ["u1"], "deleted": [deleted]}
    with pytest.raises(RefusedRowsError, match="needs the scope admin") as refused:
        await pushes.records("users", frame, PushRules(Privacy()), NOW)
    assert refused.value.faults[0]["code"] == "scope_missing"
    (erased,) = await pushes.records("users", frame, RULES, NOW)
    assert erased.record is not None and erased.record.erasure_id


@pytest.mark.parametrize(
    ("source", "columns", "expected"),
    [
        ("interactions", {"user_id": ["u"]}, ("df.event_type.0", "missing_name")),
        ("interactions", {"user_id": [None], "event_type": ["view"]},
         ("df.user_id.0", "missing_user")),
        ("interactions", {"user_id": [""], "event_type": ["view"]},
         ("df.user_id.0", "missing_user")),
        ("interactions", {"user_id": [1.5], "event_type": ["view"]},
         ("df.user_id.0", "invalid_id")),
        ("interactions", {"user_id": ["u"], "event_type": ["Product Viewed"]},
         ("df.event_type.0", "invalid_name")),
        ("interactions", VIEWED | {"timestamp": [1_790_000_000]},
         ("df.timestamp.0", "timestamp_in_seconds")),
        ("interactions", VIEWED | {"event_timestamp": ["soon"]},
         ("df.event_timestamp.0", "invalid_timestamp")),
        ("interactions", VIEWED | {"timestamp": [float("nan")]},
         ("df.timestamp.0", "invalid_timestamp")),
        ("interactions", VIEWED | {"timestamp": [NOW + 3_600_001]},
         ("df.timestamp.0", "timestamp_in_future")),
        ("interactions", VIEWED | {"position": [2**31]}, ("df.position.0", "invalid_value")),
        ("interactions", VIEWED | {"properties": ["[]"]}, ("df.properties.0", "invalid_object")),
        ("interactions", VIEWED | {"properties": ['{"a": %s}' % ("[" * 40 + "]" * 40)]},
         ("df.0", "nested_too_deeply")),
        ("interactions", VIEWED | {"big": [10**30]}, ("df.0", "invalid_value")),
        ("interactions", VIEWED | {"long": ["x" * 40_000]}, ("df.0", "event_too_large")),
        ("items", {"item_id": ["i"], "available": ["perhaps"]},
         ("df.available.0", "invalid_value")),
        ("items", {"price": [3.0]}, ("df.item_id.0", "invalid_id")),
        ("users", {"item_id": ["i"]}, ("df.user_id.0", "invalid_id")),
        ("items", {"item_id": ["i"], "attributes": [{"price": "9"}]},
         ("df.attributes.0", "invalid_value")),
        ("users", {}, ("df", "unequal_columns")),
        ("users", {"user_id": []}, ("df", "too_many_rows")),
        ("users", {"user_id": ["u", "v"], "age": [3]}, ("df", "unequal_columns")),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_with_its_place(
    source: str, columns: dict[str, list[Any]], expected: tuple[str, str]
) -> None:
    assert faults(source, **columns) == [expected]


def test_a_bad_row_refuses_all_and_every_bad_row_is_listed() -> None:
    assert faults("interactions", user_id=["u", "", "w"], event_type=["view", "view", "No"]) == [
        ("df.user_id.1", "missing_user"),
        ("df.event_type.2", "invalid_name"),
    ]


def test_an_unknown_source_has_an_error_of_its_own() -> None:
    with pytest.raises(UnknownSourceError, match="interactions, items, users"):
        push("shops", user_id=["u"])


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.just("view"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    source=st.sampled_from(pushes.SOURCES),
    frame=st.dictionaries(st.sampled_from(COLUMNS), st.lists(values, min_size=1, max_size=2)),
)
def test_whatever_is_pushed_becomes_records_or_is_refused(
    source: str, frame: dict[str, list[Any]]
) -> None:
    try:
        made = asyncio.run(pushes.records(source, frame, RULES, NOW))
    except RefusedRowsError as refused:
        assert refused.faults
    else:
        assert len(made) == len(next(iter(frame.values())))
        assert all(json.loads(out.record.model_dump_json()) and out.key for out in made)


async def test_nothing_personal_comes_past_the_policy_of_ingestion() -> None:
    rules = PushRules(Privacy(drop=["phone"], hashed=["email"], key="pepper"))
    people = {"phone": ["0800"], "email": ["a@example.org"], "ip": ["203.0.113.77"]}
    (event,) = await pushes.records("interactions", VIEWED | people, rules, NOW)
    (user,) = await pushes.records("users", {"user_id": ["u"], **people}, rules, NOW)
    for made in (event, user):
        kept = made.record.model_dump_json()
        assert "0800" not in kept and "example.org" not in kept and "203.0.113.77" not in kept
        assert "203.0.113.0" in kept
