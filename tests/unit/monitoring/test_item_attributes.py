"""The catalogue in memory: what its records say, in bounded memory."""

import pytest

from services.monitoring.item_attributes import ItemAttributes, ItemCatalogue
from slipstream.contracts.events import CatalogRecord


def item(
    name: str, *, deleted: bool = False, entity: str = "item", **attributes: object
) -> CatalogRecord:
    return CatalogRecord(
        entity=entity,  # type: ignore[arg-type]
        entity_id=name,
        attributes=attributes,
        deleted=deleted,
        timestamp=1,
    )


def read(*records: CatalogRecord, most: int = 100) -> ItemCatalogue:
    catalogue = ItemCatalogue(most)
    catalogue.take(records)
    catalogue.caught_up = True
    return catalogue


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"categories": ["a", "b"], "brand": "x", "price": 3}, (("a", "b"), "x", 3.0, True)),
        ({"category": "a"}, (("a",), "", None, True)),
        ({"categories": [1, ""], "brand": 7, "price": "3"}, ((), "", None, True)),
        (
            {"categories": ["a" * 101, *map(str, range(30))], "brand": "b" * 101},
            (tuple(map(str, range(20))), "", None, True),
        ),
    ],
)
def test_attributes_of_an_item(attributes: dict[str, object], expected: tuple[object, ...]) -> None:
    assert read(item("i", **attributes)).get("i") == expected


def test_patches_change_single_attributes_of_known_items() -> None:
    catalogue = read(
        item("i", categories=["a"], brand="x", price=3),
        item("i", entity="item_patch", price=4, brand=None),
        item("j", entity="item_patch", price=4),
    )
    assert catalogue.get("i") == ItemAttributes(("a",), "", 4.0, available=True)
    assert catalogue.get("j") is None
    catalogue.take([item("i", entity="item_patch", category="b")])
    assert catalogue.get("i") == ItemAttributes(("b",), "", 4.0, available=True)


def test_deleted_items_are_seen_and_not_in_the_catalogue() -> None:
    catalogue = read(item("i"), item("j"), item("i", deleted=True))
    assert catalogue.get("i") is None
    assert (catalogue.size(), catalogue.seen()) == (1, 2)


def test_the_size_is_not_known_while_the_topic_is_read() -> None:
    assert ItemCatalogue().size() is None


def test_of_a_large_catalogue_a_share_of_the_items_is_kept() -> None:
    names = [f"item-{n}" for n in range(2_000)]
    catalogue = read(*(item(name, brand="x") for name in names), most=300)
    watched = [name for name in names if catalogue.watches(name)]
    assert 150 < len(watched) <= 300
    assert all(catalogue.get(name) is not None for name in watched)
    assert all(catalogue.get(name) is None for name in names if name not in watched)
    assert catalogue.size() == pytest.approx(2_000, rel=0.2)
