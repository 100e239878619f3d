"""Rows that continue the product or the order above."""

from pathlib import Path
from typing import Any

import pytest

from slipstream.datasets.imports.sources import find_files
from slipstream.datasets.imports.surveys import describe, open_export
from slipstream.datasets.imports.understanding import Choices

HEADER = (
    "Handle,Title,Type,Vendor,Option1 Value,Variant SKU,Variant Inventory Tracker"
    ",Variant Inventory Qty,Variant Inventory Policy,Variant Price,Image Src,Image Position"
    ",Status\n"
)
SHIRT = (
    "shirt,Shirt,Tops,Nord,S,S-S,shopify,0,deny,49.00,https://x/1.jpg,1,active\n"
    "shirt,,,,M,S-M,shopify,5,deny,52.00,https://x/2.jpg,2,\n"
    "shirt,,,,,,,,,,https://x/3.jpg,3,\n"
)


def items(tmp_path: Path, text: str, columns: dict[str, str]) -> dict[str, dict[str, Any]]:
    (tmp_path / "products.csv").write_text(HEADER + text)
    (file,) = find_files(str(tmp_path / "products.csv"))
    export = open_export(file, Choices(columns))
    assert describe(export, export.survey())[-1].startswith('first item: {"item_id":"')
    found: list[Any] = list(export.entries(lambda rejection: pytest.fail(rejection.reason)))
    return {item.entry["item_id"]: item.entry for item in found}


def test_variants_have_what_their_product_has(tmp_path: Path) -> None:
    found = items(tmp_path, SHIRT, {})
    assert list(found) == ["S-S", "S-M"]
    shared = {
        "title": "Shirt", "categories": ["Tops"], "brand": "Nord", "image_url": "https://x/1.jpg",
        "item_group_id": "shirt", "status": "active",
    }  # fmt: skip
    assert found["S-S"] | shared | {"price": 49, "available": False} == found["S-S"]
    assert found["S-M"] | shared | {"price": 52, "available": True, "stock": 5} == found["S-M"]


def test_a_product_has_the_stock_of_its_variants_and_its_first_image(tmp_path: Path) -> None:
    shirt = items(tmp_path, SHIRT, {"Handle": "item_id"})["shirt"]
    expected = {"title": "Shirt", "price": 49, "stock": 5, "available": True}
    assert shirt | expected | {"image_url": "https://x/1.jpg"} == shirt


@pytest.mark.parametrize(
    ("row", "available"),
    [
        ("a,A,T,N,,A-1,shopify,4,deny,5,,,draft", False),
        ("a,A,T,N,,A-1,shopify,0,deny,5,,,active", False),
        ("a,A,T,N,,A-1,shopify,0,continue,5,,,active", True),
        ("a,A,T,N,,A-1,,0,deny,5,,,active", True),
    ],
)
def test_drafts_and_what_is_out_of_stock_are_not_available(
    tmp_path: Path, row: str, available: bool
) -> None:
    assert items(tmp_path, row, {})["A-1"].get("available", True) is available


def test_an_order_s_further_lines_have_its_customer(tmp_path: Path) -> None:
    header = "Name,Email,Created at,Total,Lineitem quantity,Lineitem name,Lineitem sku,Device ID\n"
    rows = "#1,a@x.example,2026-11-02,99,1,Tea,T-1,\n#1,,,,2,Pot,P-1,\n"
    (tmp_path / "orders.csv").write_text(header + rows)
    (file,) = find_files(str(tmp_path / "orders.csv"))
    export = open_export(file, Choices({"Email": "user_id"}))
    found: list[Any] = list(export.entries(lambda rejection: pytest.fail(rejection.reason)))
    assert [(event.visitor, event.call["properties"]) for event in found] == [
        ("a@x.example", {"order_id": "#1", "quantity": 1, "item_id": "T-1"}),
        ("a@x.example", {"order_id": "#1", "quantity": 2, "item_id": "P-1"}),
    ]
