"""A catalogue that goes on in the arrays of another one, or of its own."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.recommender.bundle import Bundle
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.growing import GrowingArray, Room, Rooms
from tests.unit.serving.fakes import ITEMS, item_record, model

_WORDS = st.sampled_from(["a", "b", "c"])
_VALUES = st.one_of(st.integers(0, 3), _WORDS, st.lists(_WORDS, max_size=3))
_RECORDS = st.lists(
    st.builds(
        item_record,
        st.sampled_from([*ITEMS[:3], "new", "newer"]),
        st.integers(1, 30),
        attributes=st.dictionaries(st.sampled_from(["x", "y"]), _VALUES, max_size=2),
        deleted=st.booleans(),
        entity=st.sampled_from(["item", "item", "item_patch"]),
    ),
    max_size=30,
)


def filled(records: list[StreamCatalogRecord]) -> Catalog:
    catalog = Catalog()
    for record in records:
        catalog.apply(record)
    return catalog


def copied(rooms: Rooms) -> Rooms:
    return {name: Room(room.array.copy(), room.size) for name, room in rooms.items()}


def known(catalog: Catalog) -> list[Any]:
    """All that readers are told."""
    ids = [each.record.entity_id for each in catalog.records()]
    return [
        list(catalog.records()),
        [(catalog.shown(item_id), catalog.attributes(item_id)) for item_id in [*ids, "other"]],
        [catalog.look_alikes([item_id], 9) for item_id in ids],
        [sorted(v.texts[code] for v, code in catalog.columns.terms(n)) for n in range(len(ids))],
        catalog.applied.by_topic(),
        catalog.columns.names,
    ]


@given(_RECORDS, _RECORDS)
def test_restored_catalogues_go_on_as_one_that_was_not(
    before: list[StreamCatalogRecord], after: list[StreamCatalogRecord]
) -> None:
    plain, own, other = filled(before), filled(before), Catalog()
    rooms, mark = own.rooms()
    assert other.restore(copied(rooms))
    assert own.restore(rooms, mark)
    for catalog in (plain, own, other):
        catalog.drop_early_patches()
    assert known(own) == known(other) == known(plain)
    for record in after:
        assert own.apply(record) == other.apply(record) == plain.apply(record)
    assert known(own) == known(other) == known(plain)


def test_arrays_of_before_names_leave_them_unknown_for_good() -> None:
    catalog = filled([item_record("a", attributes={"title": "A", "size": {"cm": 1}})])
    assert catalog.columns.names == {"title", "size"}
    rooms, _ = catalog.rooms()
    other, third = Catalog(), Catalog()
    other.restore({name: room for name, room in copied(rooms).items() if "all_names" not in name})
    assert other.apply(item_record("b", attributes={"colour": "red"}))
    assert third.restore(copied(other.rooms()[0]))
    assert other.columns.names is third.columns.names is None


def test_spaces_know_the_items_of_the_arrays(bundle: Bundle) -> None:
    first, further, present = filled([item_record("new"), item_record("item-03")]), Catalog(), None
    first.apply(item_record("item-04", available=False))
    present = model(bundle)
    mask = first.space(present).shown
    assert len(further.space(present)) == len(ITEMS)
    rooms, mark = first.rooms()
    assert further.restore(copied(rooms)) and first.restore(rooms, mark)
    assert further.changes == 1
    for catalog in (first, further):
        space = catalog.space(present)
        assert [space.number(item_id) for item_id in ("item-03", "new", "other")] == [
            bundle.index["item-03"],
            len(ITEMS),
            None,
        ]
        assert np.flatnonzero(~space.shown).tolist() == [bundle.index["item-04"]]
        catalog.apply(item_record("newer", available=False))
        assert space.item_id(len(ITEMS) + 1) == "newer"
        assert not space.shown[len(ITEMS) + 1]
    assert first.space(present).rows.tolist() == further.space(present).rows.tolist()
    assert not mask[bundle.index["item-04"]]


def test_items_that_have_expired_since_are_hidden_and_others_expire() -> None:
    now = [1_000.0]
    first = Catalog(lambda: now[0])
    for item_id, moment in (("a", 2_000), ("b", 3_000), ("c", 4_000)):
        first.apply(item_record(item_id, attributes={"expires_at": moment}))
    rooms, mark = first.rooms()
    now[0] = 2_500.0
    assert not first.shown("a")
    further = Catalog(lambda: now[0])
    assert further.restore(copied(rooms)) and first.restore(rooms, mark)
    for catalog in (first, further):
        assert [catalog.shown(item_id) for item_id in "abc"] == [False, True, True]
    now[0] = 3_500.0
    for catalog in (first, further):
        assert [catalog.shown(item_id) for item_id in "abc"] == [False, False, True]


def test_arrays_from_before_a_change_or_of_others_are_refused() -> None:
    catalog = filled([item_record("a")])
    rooms, mark = catalog.rooms()
    catalog.apply(item_record("a", timestamp=2, available=False))
    assert not catalog.restore(rooms, mark)
    assert not catalog.restore(filled([item_record("b")]).rooms()[0])
    assert not catalog.shown("a")


def test_patches_that_waited_are_merged_into_items_of_the_arrays() -> None:
    patch = item_record("a", 5, entity="item_patch", available=None, attributes={"price": 5})
    catalog = filled([patch])
    assert catalog.restore(filled([item_record("a")]).rooms()[0])
    assert catalog.attributes("a") == b'{"price":5}'


@pytest.mark.parametrize("size", [0, 1, 1_000])
def test_an_array_grows_in_its_room_and_beyond(size: int) -> None:
    array = GrowingArray(np.float64, np.nan, np.arange(size, dtype=np.float64))
    room = array.room()
    restored: GrowingArray[np.float64] = GrowingArray.restore(np.nan, room)
    beyond = np.array([-1, size, size + 50], np.int32)
    assert np.isnan(restored.at(beyond)).all()
    restored.put(size + 50, 1.0)
    assert room.array[size + 50] == 1.0
    assert np.isnan(restored.values[size : size + 50]).all()
    restored.put(len(room.array) + 9, 2.0)
    assert restored.get(size + 50) == 1.0 and restored.get(len(room.array) + 9) == 2.0
