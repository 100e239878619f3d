"""Patches of items and users: what they change, and that compaction loses nothing of it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.item_patches import MAX_PATCHED_BYTES, merge_patch, patch_key, patched
from slipstream.contracts.topics import PEOPLE, topic_of

ITEM = CatalogRecord(
    entity="item", entity_id="a", timestamp=1, attributes={"title": "Lamp", "price": 9, "size": {}}
)


def patch(attributes: dict[str, Any], available: bool | None = None) -> CatalogRecord:
    return CatalogRecord(
        entity="item_patch", entity_id="a", timestamp=2, attributes=attributes, available=available
    )


def test_a_patch_changes_what_it_names_and_nothing_else() -> None:
    new = patched(ITEM, patch({"price": 5, "size": {"w": 3}}))
    assert new is not None
    assert new.attributes == {"title": "Lamp", "price": 5, "size": {"w": 3}}
    assert (new.entity, new.available, new.timestamp) == ("item", True, 2)
    hidden = patched(new, patch({"price": None}, available=False))
    assert hidden is not None
    assert hidden.attributes == {"title": "Lamp", "size": {"w": 3}}
    assert not hidden.available


def test_a_patch_makes_no_item_and_no_endless_one() -> None:
    assert patched(None, patch({"price": 5})) is None
    assert patched(ITEM.model_copy(update={"deleted": True}), patch({"price": 5})) is None
    assert patched(ITEM, patch({"text": "x" * MAX_PATCHED_BYTES})) is None


def test_a_server_s_patch_of_a_user_closes_what_a_page_said() -> None:
    user = CatalogRecord(
        entity="user", entity_id="a", timestamp=1, attributes={"plan": "free"}, by_browser=True
    )
    change = CatalogRecord(
        entity="user_patch", entity_id="a", timestamp=2, attributes={"age": 3}, available=None
    )
    new = patched(user, change)
    assert new is not None
    assert (new.entity, new.attributes, new.by_browser) == (
        "user",
        {"plan": "free", "age": 3},
        False,
    )
    assert patch_key(change).startswith("user:a\x00")
    assert topic_of(change) is PEOPLE


def test_the_examples_of_rfc_7396() -> None:
    assert merge_patch({"a": "b"}, {"a": None}) == {}
    assert merge_patch({"a": [{"b": "c"}]}, {"a": [1]}) == {"a": [1]}
    assert merge_patch({"e": None}, {"a": 1}) == {"e": None, "a": 1}
    assert merge_patch("foo", {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}


names = st.sampled_from("pqr")
values = st.none() | st.integers(0, 2) | st.just([1])
objects = st.recursive(
    st.dictionaries(names, values, max_size=3),
    lambda inner: st.dictionaries(names, values | inner, max_size=3),
    max_leaves=6,
)
# Whole records have no key of a patch.
records = st.builds(patch, objects, st.none() | st.booleans()) | st.builds(
    lambda attributes, deleted: CatalogRecord(
        entity="item", entity_id="a", timestamp=1, attributes=attributes, deleted=deleted
    ),
    objects,
    st.booleans(),
)


def fold(log: list[CatalogRecord]) -> CatalogRecord | None:
    item: CatalogRecord | None = ITEM
    for record in log:
        item = record if record.entity == "item" else patched(item, record)
    return item


@given(st.lists(records, max_size=12), st.data())
def test_a_compacted_log_gives_the_same_item(log: list[CatalogRecord], data: st.DataObject) -> None:
    keys = ["item:a" if record.entity == "item" else patch_key(record) for record in log]
    # Compaction has come to some of the records, and dropped those with a later one of their key.
    compacted = [
        record
        for place, (key, record) in enumerate(zip(keys, log, strict=True))
        if key not in keys[place + 1 :] or data.draw(st.booleans())
    ]
    assert fold(compacted) == fold(log)
