import pytest

from slipstream.slates.catalogue import catalog
from slipstream.slates.catalogue.catalog import EarlyPatches
from tests.unit.serving.fakes import item_record


def test_patches_wait_for_their_item_in_order_until_nobody_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalog, "MOST_ITEMS", 2)
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
