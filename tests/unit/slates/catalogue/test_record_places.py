"""Places of the catalogue's records, and patches that wait for their items."""

import numpy as np
import pytest

from slipstream.contracts.positions import CatalogPlace
from slipstream.slates.catalogue import record_places
from slipstream.slates.catalogue.record_places import EarlyPatches, ItemPlaces
from tests.unit.serving.fakes import item_record


def test_patches_wait_for_their_item_in_order_until_nobody_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record_places, "MOST_ITEMS", 2)
    early = EarlyPatches()
    patches = [item_record(name, at, entity="item_patch") for at, name in enumerate("aabbc")]
    for patch in patches:
        early.keep(patch)
    assert early.take("a") == [], "the first of too many"
    assert early.take("b") == patches[2:4]
    assert early.take("b") == []
    early.close()
    early.keep(patches[0])
    assert early.take("a") == early.take("c") == []


def test_a_row_has_another_mark_once_another_record_took_its_place() -> None:
    places = ItemPlaces()
    for row in range(3):
        places.put(row, CatalogPlace("c:0", row, 5, False))
    before = places.marks()
    places.put(1, CatalogPlace("c:0", 9, 5, False))
    places.put(3, CatalogPlace("d:0", 0, 5, False))
    assert np.flatnonzero(places.marks()[:3] != before).tolist() == [1]
    places.put(1, CatalogPlace("d:0", 9, 5, False))
    assert places.marks()[1] not in (before[1], places.marks()[0]), "of another topic"
