"""The catalogue of items, and the positions that it has applied."""

import time
import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.positions import source_name
from slipstream.recommender.bundle import Bundle
from slipstream.slates.catalogue import columns
from slipstream.slates.catalogue.catalog import AppliedPositions, Catalog
from tests.unit.serving.fakes import ITEMS, item_record, model


@pytest.fixture
def clock() -> list[float]:
    """A catalogue's time in ms, which the test sets."""
    return [time.time() * 1000]


def test_item_never_heard_of_may_be_shown() -> None:
    assert Catalog().shown("anything")


def test_mask_follows_the_catalogue_after_it_was_made(bundle: Bundle) -> None:
    catalog, present = Catalog(), model(bundle)
    catalog.apply(item_record("item-01", available=False))
    mask = catalog.mask(present)
    assert not mask[bundle.index["item-01"]]
    assert mask.sum() == len(mask) - 1 == len(ITEMS) - 1
    catalog.apply(item_record("item-01", timestamp=2))
    catalog.apply(item_record("item-02", timestamp=2, deleted=True))
    catalog.apply(item_record("not-in-the-model", available=False))
    assert mask[bundle.index["item-01"]]
    assert not mask[bundle.index["item-02"]]
    hidden = ("item-01", "item-02", "not-in-the-model", "unheard-of")
    assert list(map(catalog.why_hidden, hidden)) == ["", "deleted", "unavailable", ""]


def test_item_is_hidden_from_the_moment_that_it_expires(bundle: Bundle, clock: list[float]) -> None:
    catalog, present = Catalog(lambda: clock[0]), model(bundle)
    soon = clock[0] + 60
    catalog.apply(item_record("item-01", attributes={"expires_at": soon}))
    catalog.apply(item_record("item-02", attributes={"expires_at": "2020-01-01T00:00:00Z"}))
    catalog.apply(item_record("item-03", attributes={"expires_at": "2999-01-01"}))
    mask = catalog.mask(present)
    assert catalog.shown("item-01")
    assert mask[bundle.index["item-01"]]
    assert not catalog.shown("item-02")
    assert catalog.shown("item-03")
    clock[0] = soon
    assert not catalog.shown("item-01")
    assert catalog.why_hidden("item-01") == "expired"
    assert not catalog.mask(present)[bundle.index["item-01"]]


def test_items_still_expire_when_the_moments_were_sorted_out(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    monkeypatch.setattr(columns, "SURPLUS", 2)
    catalog = Catalog(lambda: clock[0])
    soon = clock[0] + 60
    catalog.apply(item_record("b", attributes={"expires_at": soon}))
    for number in range(50):
        catalog.apply(
            item_record("a", timestamp=number, attributes={"expires_at": soon + 60_000 + number})
        )
    assert catalog.shown("b")
    clock[0] = soon
    assert not catalog.shown("b")
    assert catalog.shown("a")


def test_expiry_that_was_postponed_does_not_hide(clock: list[float]) -> None:
    catalog = Catalog(lambda: clock[0])
    soon = clock[0] + 60
    catalog.apply(item_record("a", attributes={"expires_at": soon}))
    catalog.apply(item_record("a", timestamp=2, attributes={"expires_at": soon + 60_000}))
    clock[0] = soon
    assert catalog.shown("a")


@given(
    st.permutations(
        [item_record("a", at, attributes={"at": at}, available=at % 2 == 0) for at in range(5)]
    )
)
def test_the_newest_record_counts_in_whatever_order_they_come(records: list[object]) -> None:
    catalog = Catalog()
    for record in records:
        catalog.apply(record)  # type: ignore[arg-type]
    assert catalog.attributes("a") == b'{"at":4}'
    assert catalog.shown("a")


@pytest.mark.parametrize("entity", ["user", "identity"])
def test_records_of_users_and_of_who_they_are_are_not_items(entity: str) -> None:
    catalog = Catalog()
    catalog.apply(item_record("ada", entity=entity))
    assert len(catalog) == 0


def test_an_item_that_changes_all_the_time_takes_no_more_room() -> None:
    catalog, soon = Catalog(), time.time() * 1000 + 60_000
    for number in range(10_000):
        attributes = {"updated": f"at {number}", "category": "shoes", "expires_at": soon + number}
        catalog.apply(item_record("a", timestamp=number, attributes=attributes))
    assert len(catalog._expiries._heap) < 2_000
    updated = catalog.columns.categories["updated"]
    assert list(updated.vocabulary.codes) == ["at 9999"]
    assert updated.codes.values.max() < 2


def test_look_alikes_share_attributes_rare_ones_first_and_forget_what_changed() -> None:
    catalog = Catalog()
    for number in range(5):
        catalog.apply(
            item_record(f"shoe-{number}", attributes={"category": "shoes", "title": "A shoe"})
        )
    catalog.apply(item_record("boot", attributes={"categories": ["boots"], "category": "shoes"}))
    catalog.apply(item_record("twin", attributes={"categories": ["boots"], "category": "shoes"}))
    catalog.apply(item_record("hat", attributes={"category": "hats", "title": "A shoe"}))
    assert catalog.look_alikes(["boot"], 1)[0][0] == "twin"
    assert {item_id for item_id, _ in catalog.look_alikes(["boot"], 10)} == {
        "twin",
        *(f"shoe-{n}" for n in range(5)),
    }
    catalog.apply(item_record("twin", timestamp=2, attributes={"category": "hats"}))
    assert "twin" not in {item_id for item_id, _ in catalog.look_alikes(["boot"], 10)}
    catalog.apply(
        item_record("shoe-1", timestamp=2, attributes={"category": "shoes"}, available=False)
    )
    assert {item_id for item_id, _ in catalog.look_alikes(["boot"], 10, {"shoe-0"})} == {
        "shoe-2",
        "shoe-3",
        "shoe-4",
    }


@given(st.permutations(range(12)), st.integers(1, 12))
def test_look_alikes_are_the_same_in_whichever_order_items_came(order: list[int], n: int) -> None:
    def alike(numbers: Iterable[int]) -> list[tuple[str, float]]:
        catalog = Catalog()
        for number in numbers:
            attributes = {"kind": "shoe", "brand": f"b{number % 3}"}
            catalog.apply(item_record(f"i{number}", number // 4, attributes=attributes))
        return catalog.look_alikes(["i5"], n)

    assert alike(order) == alike(range(12))


def test_look_alikes_compare_no_more_than_a_bounded_number_the_rarest_values_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalog = Catalog()
    for number in range(50):
        attributes = {"brand": f"b{number // 2}", **{f"a{place}": "all" for place in range(20)}}
        catalog.apply(item_record(f"i{number:02}", attributes=attributes))
    monkeypatch.setattr("slipstream.slates.catalogue.catalog._COMPARED", 2)
    assert [item_id for item_id, _ in catalog.look_alikes(["i06"], 10)] == ["i07"]


def test_an_item_takes_no_more_memory_than_its_attributes_need() -> None:
    catalog = Catalog()
    records = [
        item_record(f"item-{number}", attributes={"category": "shoes", "price": number})
        for number in range(200)
    ]
    tracemalloc.start()
    try:
        for record in records:
            catalog.apply(record)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(records) < 2_000


def test_an_item_keeps_the_time_at_which_it_appeared_over_changes_and_a_restart() -> None:
    before = Catalog()
    for record in (
        item_record("tea", 5),
        item_record("tea", 8, attributes={"price": 2}),
        item_record("cup", 6),
        item_record("cup", 7, deleted=True),
        item_record("cup", 9),
        item_record("pot", 7, deleted=True),
    ):
        before.apply(record)
    assert before.newest() == [("cup", 9.0), ("tea", 5.0)]
    after = Catalog()
    for record in before.records():
        after.apply(record)
    assert after.newest() == before.newest()
    after.apply(item_record("pot", 10))
    assert _copy(after).newest()[0] == ("pot", 10.0)


@pytest.mark.parametrize(
    ("published", "appeared"),
    [(3, 3.0), ("1970-01-01T00:00:00.004Z", 4.0), (9, 5.0), (-1, 5.0), ("soon", 5.0), (True, 5.0)],
)
def test_a_publication_before_the_first_record_is_when_an_item_appeared(
    published: object, appeared: float
) -> None:
    catalog = Catalog()
    catalog.apply(item_record("tea", 5, attributes={"published_at": published}))
    assert catalog.newest() == [("tea", appeared)]
    assert _copy(catalog).newest() == [("tea", appeared)]


def test_the_stores_earlier_appearance_counts_also_where_the_topic_was_faster() -> None:
    catalog = Catalog()
    catalog.apply(item_record("tea", 8))
    assert not catalog.apply(item_record("tea", 8, appeared_at=3))
    assert catalog.newest() == [("tea", 3.0)]


def _copy(catalog: Catalog) -> Catalog:
    copied = Catalog()
    for record in catalog.records():
        copied.apply(record)
    return copied


def test_a_patch_changes_single_attributes_of_an_item_that_is_there() -> None:
    catalog = Catalog()
    catalog.apply(item_record("a", attributes={"title": "Lamp", "price": 9}))
    patch = item_record("a", 2, entity="item_patch", available=None, attributes={"price": 5})
    assert catalog.apply(patch)
    assert not catalog.apply(patch), "it was read before"
    assert catalog.attributes("a") == b'{"title":"Lamp","price":5}'
    assert catalog.shown("a")
    assert catalog.apply(item_record("a", 3, entity="item_patch", available=False))
    assert not catalog.shown("a")
    catalog.apply(item_record("a", 4, deleted=True))
    assert not catalog.apply(item_record("a", 5, entity="item_patch", available=True))
    assert not catalog.apply(item_record("b", 6, entity="item_patch", available=True))
    assert "b" not in catalog


@given(
    st.lists(st.integers(0, len(ITEMS) - 1), unique=True, max_size=6),
    st.lists(st.sampled_from([*ITEMS, "new", "unknown"]), max_size=6),
)
def test_items_by_number_are_what_they_are_by_id(
    bundle: Bundle, numbers: list[int], others: list[str]
) -> None:
    catalog, by_model = Catalog(), model(bundle)
    for at, item_id in enumerate([ITEMS[3], "new", ITEMS[0]]):
        catalog.apply(item_record(item_id, attributes={"price": at}))
    known = by_model.bundle.item_ids
    ids = list(dict.fromkeys([*(known[number] for number in numbers), *others]))

    by_number = catalog.numbered(by_model, np.array(numbers, np.int32), others)
    by_id = catalog.listed(ids)

    assert by_number.rows.tolist() == by_id.rows.tolist()
    assert list(map(by_number.number, [*ids, ITEMS[9]])) == list(
        map(by_id.number, [*ids, ITEMS[9]])
    )


positions = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 9)))


@given(positions)
def test_ends_are_behind_the_last_record_of_each_partition(
    noted: list[tuple[str, int, int]],
) -> None:
    applied = AppliedPositions()
    for topic_id, partition, offset in noted:
        applied.note(source_name(topic_id, partition), offset)
    ends = applied.by_topic()
    for topic_id in {topic_id for topic_id, _, _ in noted}:
        for partition, end in enumerate(ends[topic_id]):
            own = [at for topic, part, at in noted if (topic, part) == (topic_id, partition)]
            assert end == max(own, default=-1) + 1
    assert applied.by_topic() is ends
    applied.note("", 5)
    assert applied.by_topic() is ends, "a record without a source has no position"
    applied.note("a:0", 10)
    assert applied.by_topic()["a"][0] == 11
