"""Counting what changed, in a real lake."""

import pytest

from services.training.catalog_changes import CatalogChanges
from slipstream.stores.lake import CATALOG, Lake
from tests.unit.training.histories import write_items


def test_since_counts_each_item_with_a_later_record_once_and_nothing_else(lake: Lake) -> None:
    changes = CatalogChanges(lake)
    assert changes.since(None) == 0
    first = write_items(lake, [("a", {}, False, 1), ("b", {}, False, 1)])
    assert (changes.since(None), changes.since(first)) == (2, 0)
    second = write_items(
        lake, [("a", {"n": 1}, False, 2), ("a", {"n": 2}, False, 3), ("c", {}, True, 3)], first=2
    )
    write_items(lake, [(f"user-{n}", {}, False, 3) for n in range(9)], entity="user", first=5)
    assert (changes.since(None), changes.since(first), changes.since(second)) == (3, 2, 0)


def test_since_does_not_count_older_records_that_were_merged_with_new_ones(lake: Lake) -> None:
    for number in range(3):
        read = write_items(lake, [(f"i{number}", {}, False, 1)], first=number)
    write_items(lake, [("new", {}, False, 2)], first=3)
    assert lake.compact(CATALOG, min_small_files=2) > 0
    assert CatalogChanges(lake).since(read) == 1


def test_since_a_version_that_is_not_known_is_nothing(lake: Lake) -> None:
    write_items(lake, [("a", {}, False, 1)])
    assert CatalogChanges(lake).since(99) == 0


def test_since_asked_again_reads_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_items(lake, [("a", {}, False, 1)])
    write_items(lake, [("b", {}, False, 2)], first=1)
    changes = CatalogChanges(lake)
    assert changes.since(first) == 1
    monkeypatch.setattr(lake, "scan_since", lambda *_: pytest.fail("read again"))
    assert changes.since(first) == 1
