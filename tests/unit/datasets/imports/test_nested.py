"""Nested rows: paths of objects, and orders with lists of lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream.datasets.imports.conversion import Rejection
from slipstream.datasets.imports.nested import find_lines, taken_apart
from slipstream.datasets.imports.sources import Row, find_files
from slipstream.datasets.imports.surveys import Export, OpenQuestionError, open_export
from slipstream.datasets.imports.understanding import Choices

ORDER = {
    "order": {
        "customer": {"id": "c1", "name": "Ada"},
        "placed_at": "2026-11-02T09:00:00Z",
        "number": "o1",
        "lines": [{"sku": "a", "qty": 2}, {"sku": "b", "qty": 1}],
    }
}


def export_of(tmp_path: Path, *values: Any, choices: Choices = Choices()) -> Export:
    path = tmp_path / "export.json"
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values))
    (file,) = find_files(str(path))
    return open_export(file, choices)


def events(export: Export) -> list[Any]:
    rejected: list[Rejection] = []
    found = list(export.entries(rejected.append))
    assert rejected == []
    return found


def test_a_list_of_lines_is_a_row_for_each() -> None:
    row = Row(7, ORDER)
    assert find_lines([Row(1, {"a": [1, 2]}), row]) == "order.lines"
    apart = list(taken_apart(row, "order.lines"))
    assert [(each.line, each.cells["order.lines.sku"]) for each in apart] == [(7, "a"), (7, "b")]
    assert apart[0].cells["order.customer.id"] == "c1"
    empty = Row(8, {"order": {"customer": {"id": "c2"}, "lines": []}})
    assert [each.cells["order.customer.id"] for each in taken_apart(empty, "order.lines")] == ["c2"]


def test_tags_and_images_are_no_lines() -> None:
    lists = {"tags": [{"name": "a"}], "images": [{"id": 1, "src": "x"}], "names": ["a"], "n": []}
    assert find_lines([Row(1, lists)]) == ""


def test_paths_are_known_and_chosen(tmp_path: Path) -> None:
    first, second = events(export_of(tmp_path, ORDER))
    assert (first.visitor, first.call["properties"]) == (
        "c1", {"order_id": "o1", "item_id": "a", "quantity": 2},
    )  # fmt: skip
    assert second.call["properties"]["item_id"] == "b"
    choices = Choices({"order.customer.name": "user_id", "order.customer.id": "customer"})
    chosen = events(export_of(tmp_path, ORDER, choices=choices))[0]
    assert (chosen.visitor, chosen.call["properties"]["customer"]) == ("Ada", "c1")


def test_an_order_says_which_columns_it_leaves_out(tmp_path: Path) -> None:
    order = {**ORDER["order"], "billing": {"street": "1 Long Road"}}
    export = export_of(tmp_path, {"order": order})
    (told,) = [note for note in export.understanding.notes if "left out" in note]
    assert "`order.billing.street`" in told and "--map COLUMN=NAME keeps one" in told


def test_objects_without_lines_stay_whole_or_are_known(tmp_path: Path) -> None:
    view = {"user": {"id": "u", "plan": "gold"}, "sku": "a", "type": "view", "box": {"w": 1}}
    (event,) = events(export_of(tmp_path, {**view, "ts": "2026-11-02"}))
    assert event.visitor == "u"
    assert event.call["properties"] == {"item_id": "a", "box": {"w": 1}, "user.plan": "gold"}


def test_an_address_is_offered_as_the_visitor(tmp_path: Path) -> None:
    order = {"id": 1, "created_at": "2026-11-02", "email": "ada@mail.example"}
    lines = {"line_items": [{"sku": "a", "quantity": 1}]}
    with pytest.raises(OpenQuestionError, match="--map email=user_id") as asked:
        export_of(tmp_path, order | lines)
    assert asked.value.offered == {"email": "user_id"}


def test_calls_of_segment_keep_their_products_and_people(tmp_path: Path) -> None:
    who = {"userId": "u", "timestamp": "2026-11-02T09:00:00Z"}
    products = [{"product_id": "p", "price": 5}, {"sku": "q"}]
    bought = {"event": "Order Completed", "properties": {"order_id": "o", "products": products}}
    calls = [
        {"type": "identify", "traits": {"plan": "gold"}, **who},
        {"type": "track", **bought, **who},
        {"type": "page", "name": "Home", "properties": {"path": "/"}, **who},
    ]
    export = export_of(tmp_path, *calls)
    identify, order, page = events(export)
    assert identify.call == {
        "type": "identify",
        "userId": "u",
        "timestamp": 1_793_610_000_000,
        "traits": {"plan": "gold"},
    }
    assert order.call["properties"] == {"order_id": "o", "products": products}
    assert (page.call["type"], page.event_type) == ("page", "page")
    survey = export.survey()
    assert survey.types == {"identify": 1, "purchase": 1, "page": 1}
    assert survey.items.named("item") == "2 items"
