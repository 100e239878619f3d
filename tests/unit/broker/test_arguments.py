from typing import Any, Final

from slipstream.broker.arguments import partition_of
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.item_patches import patch_key

SHAPES: Final[tuple[dict[str, Any], ...]] = (
    {"price": 1},
    {"price": {}},
    {"price": {"net": 1}},
    {"stock": None},
)


def test_patches_of_an_item_are_in_its_partition_under_keys_of_their_own() -> None:
    for number in range(50):
        keys = {
            patch_key(
                CatalogRecord(
                    entity="item_patch",
                    entity_id=f"sku-{number}",
                    timestamp=1,
                    available=available,
                    attributes=attributes,
                )
            )
            for available in (None, True)
            for attributes in SHAPES
        }
        assert len(keys) == 8
        item = partition_of(f"item:sku-{number}".encode(), 12)
        assert {partition_of(key.encode(), 12) for key in keys} == {item}
