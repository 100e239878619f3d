"""The search of items: what is found, in which order, and that it follows the catalogue."""

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.serving.state import item_search as module
from services.serving.state.item_search import ItemSearch
from slipstream.chassis.errors import UnavailableError
from slipstream.slates.catalogue.catalog import Catalog
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.fakes import FakeOnline, Setting, item_record


def described(catalog: Catalog, item_id: str, at: int = 1, **attributes: Any) -> None:
    catalog.apply(item_record(item_id, at, attributes=attributes))


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog()
    described(catalog, "a", title="Linen shirt", brand="Kalo", categories=["men", "shirts"])
    described(catalog, "b", title="Shirts and more", brand="Mira", category="books")
    described(catalog, "c", name="Café au lait", price=3, color="beige")
    described(catalog, "d", title=["no text"], brand=7, categories={"x": 1}, price=True)
    return catalog


def ids(search: ItemSearch, query: str, limit: int = 20) -> list[str]:
    return [item["item_id"] for item in search.found(query, limit)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("shirt", ["a", "b"]),
        ("shirts", ["b", "a"]),
        ("SHI mIr", ["b"]),
        ("men kalo", ["a"]),
        ("cafe", ["c"]),
        ("d", ["d"]),
        ("unheard-of", []),
        ('" OR * NEAR( {title}:', []),
        ("\0 ' ; --", []),
        ("!!! …", []),
    ],
)
def test_items_with_all_words_are_found_whole_words_first(
    catalog: Catalog, query: str, found: list[str]
) -> None:
    search = ItemSearch(catalog)
    search.catch_up()
    assert ids(search, query) == found


def test_found_items_are_described_with_what_they_have(catalog: Catalog) -> None:
    search = ItemSearch(catalog)
    search.catch_up()
    (coffee,) = search.found("lait", 5)
    assert coffee == {
        "item_id": "c",
        "title": "Café au lait",
        "category": None,
        "brand": None,
        "color": "beige",
        "price": 3,
        "available": True,
    }
    (odd,) = search.found("d", 5)
    assert set(odd.values()) == {"d", None, True}


def test_changes_are_followed(catalog: Catalog, tmp_path: Path) -> None:
    search = ItemSearch(catalog, tmp_path / "search.db")
    search.catch_up()
    described(catalog, "a", 2, title="Wool coat")
    catalog.apply(item_record("b", 2, deleted=True))
    described(catalog, "e", title="Shirt, sold out")
    catalog.apply(item_record("e", 3, attributes={"title": "Shirt, sold out"}, available=False))
    described(catalog, "f", title="A long name of a plain shirt")
    search.catch_up()
    assert ids(search, "shirt") == ["f", "e"], "what may be shown comes first"
    assert ids(search, "wool") == ["a"]
    assert ids(search, "books") == []
    assert ids(search, "shirt", 1) == ["f"]
    search.close()
    assert not (tmp_path / "search.db").exists()
    with pytest.raises(UnavailableError):
        search.found("wool", 1)


def test_the_first_search_has_the_index_made(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, stop = ItemSearch(catalog), threading.Event()
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    worker = threading.Thread(target=search.follow, args=(stop,))
    worker.start()
    try:
        assert not search._made.wait(0.05), "made without a search"
        assert ids(search, "linen") == ["a"]
    finally:
        stop.set()
        worker.join()
    waiting = ItemSearch(catalog)
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)
    with pytest.raises(UnavailableError, match="is being made"):
        waiting.found("linen", 1)


def test_a_restored_catalogue_is_indexed(catalog: Catalog, tmp_path: Path) -> None:
    rooms, _ = catalog.rooms()
    other = Catalog()
    search = ItemSearch(other, tmp_path / "cache" / "search.db")
    search.catch_up()
    assert other.restore(rooms)
    search.catch_up()
    assert ids(search, "linen") == ["a"]


async def test_the_route_checks_its_query_and_answers_items(catalog: Catalog) -> None:
    setting = Setting(FakeOnline())
    app = make_app(setting)
    described(setting.catalog, "a/b <i>", title="שלום עולם")
    app.state.parts.search.catch_up()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        answer = await client.get("/v1/items:search", params={"q": "עולם"})
        assert [item["item_id"] for item in answer.json()["items"]] == ["a/b <i>"]
        described(setting.catalog, "c", title="עולם")
        app.state.parts.search.catch_up()
        one = await client.get("/v1/items:search", params={"q": "עולם", "n": 1})
        assert len(one.json()["items"]) == 1
        for query in ({}, {"q": ""}, {"q": "x" * 201}, {"q": "x", "n": 101}, {"query": "x"}):
            refused = await client.get("/v1/items:search", params=query)
            assert refused.status_code == 422, query


async def test_rules_are_counted_over_the_items_that_may_be_shown() -> None:
    setting = Setting(FakeOnline())
    app = make_app(setting)
    for number in range(6):
        brand = "Kalo" if number < 2 else "Mine"
        described(setting.catalog, f"i{number}", brand=brand, price=number)
    rules = [
        {"name": "hide", "filter": 'brnad == "Kalo"'},
        {"name": "kalo", "filter": 'brand == "Kalo" and price > 0'},
        {"name": "hero", "filter": 'item_id in ["i0", "i99999"]'},
        {"name": "own", "filter": "brand in seen"},
        {"name": "cap", "attribute": "brnad"},
    ]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        answer = await client.post("/v1/rules:match", json={"rules": rules})
        told = answer.json()
        assert told["items"] >= 6
        meant = "no item has an attribute brnad (did you mean brand?)"
        assert [(each["rule"], each["matches"], each["remark"]) for each in told["rules"]] == [
            ("hide", 0, meant),
            ("kalo", 1, ""),
            ("hero", 1, "there is no item i99999 that may be shown"),
            ("own", None, ""),
            ("cap", told["items"], meant),
        ]
        refused = await client.post("/v1/rules:match", json={"rules": [rules[0] | {"filter": "("}]})
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "invalid_filter")
