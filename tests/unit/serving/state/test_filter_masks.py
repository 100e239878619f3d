"""Slates of every route keep to the filter, whichever step answers, and say what is wrong."""

import asyncio
import threading

import httpx
import pytest

from services.serving.state import filter_masks
from slipstream.recommender.bundle import Bundle
from slipstream.slates.catalogue.masks import mask
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.fakes import ITEMS, FakeOnline, Setting, item_record, model, visitor

BRANDS = ("nike", "puma", "asics")


def attributes(number: int) -> dict[str, object]:
    return {"price": number * 10, "brand": BRANDS[number % 3], "sizes": [str(number % 4), "x"]}


@pytest.fixture
def setting(bundle: Bundle) -> Setting:
    online = FakeOnline(
        {"ada": visitor("item-03", "item-04")}, [(item_id, 1.0) for item_id in ITEMS]
    )
    made = Setting(online, model(bundle, "7"), kept_lists=100)
    for number, item_id in enumerate(ITEMS[:30]):
        made.catalog.apply(item_record(item_id, attributes=attributes(number)))
    return made


@pytest.fixture
async def client(setting: Setting) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_app(setting))
    return httpx.AsyncClient(transport=transport, base_url=URL)


def numbers(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [int(item["item_id"].removeprefix("item-")) for item in answer.json()["items"]]


CHEAP_NIKE = 'brand == "nike" and price <= 150 and item_id not in seen'


async def test_the_model_fills_a_list_with_what_passes(client: httpx.AsyncClient) -> None:
    plain = await client.get("/v1/recommendations/ada?n=4")
    assert any(number % 3 for number in numbers(plain))
    for answer in (
        await client.get("/v1/recommendations/ada", params={"n": 4, "filter": CHEAP_NIKE}),
        await client.post(
            "/v1/recommendations", json={"user_id": "ada", "n": 4, "filter": CHEAP_NIKE}
        ),
        await client.post(
            "/v1/sessions:recommend",
            json={"events": [{"item_id": "item-03"}], "n": 4, "filter": CHEAP_NIKE},
        ),
    ):
        assert answer.json()["answered_by"] == "model"
        assert sorted(numbers(answer)) == [0, 6, 9, 12] or sorted(numbers(answer)) == [6, 9, 12, 15]
    assert numbers(await client.get("/v1/recommendations/ada?n=4")) == numbers(plain)


async def test_seen_brands_are_those_of_the_visitor_s_items(client: httpx.AsyncClient) -> None:
    asked = {"n": 5, "filter": "brand not in seen and price is not null"}
    answer = await client.get("/v1/recommendations/ada", params=asked)
    # item-03 is of nike, item-04 of puma.
    assert {BRANDS[number % 3] for number in numbers(answer)} == {"asics"}


@pytest.mark.parametrize(
    "path", ["/v1/recommendations/nobody", "/v1/trending", "/v1/similar/item-03"]
)
async def test_the_other_steps_keep_to_it_too(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, params={"n": 5, "filter": '"2" in sizes and brand'})
    assert answer.json()["answered_by"] in ("trending", "similar")
    assert len(numbers(answer)) == 5
    assert all(number % 4 == 2 and number < 30 for number in numbers(answer))


async def test_items_without_attributes_pass_what_does_not_ask_for_any(
    client: httpx.AsyncClient,
) -> None:
    asked = {"n": 8, "filter": "price is null and item_id != 'item-35'"}
    answer = await client.get("/v1/trending", params=asked)
    assert numbers(answer) == [30, 31, 32, 33, 34, 36, 37, 38]


async def test_changes_of_the_catalogue_count_within_a_second(
    setting: Setting, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(setting.line._driver.masks, "_clock", lambda: now[0])
    asked = {"n": 40, "filter": "price == 270"}
    assert numbers(await client.get("/v1/recommendations/ada", params=asked)) == [27]
    setting.catalog.apply(item_record("item-28", 2, attributes={"price": 270}))
    now[0] += 1.0
    answer = await client.get("/v1/recommendations/ada", params=asked)
    assert sorted(numbers(answer)) == [27, 28]
    # What may not be shown goes at once.
    setting.catalog.apply(item_record("item-27", 2, attributes={"price": 270}, available=False))
    assert numbers(await client.get("/v1/recommendations/ada", params=asked)) == [28]


async def test_an_attribute_that_no_item_has_is_remarked(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/recommendations/ada", params={"filter": "prize < 100"})
    assert answer.json()["items"] == []
    assert "no item has an attribute prize (did you mean price?)" in answer.json()["reason"]
    other = await client.get("/v1/recommendations/ada", params={"filter": "colour == 1"})
    assert "no item has an attribute colour;" in other.json()["reason"]


@pytest.mark.parametrize("path", ["/v1/recommendations/ada", "/v1/similar/item-03"])
async def test_a_filter_that_no_item_meets_is_told_the_values_that_there_are(
    client: httpx.AsyncClient, path: str
) -> None:
    async def reason(filter_: str) -> str:
        answer = (await client.get(path, params={"filter": filter_})).json()
        return str(answer["reason"]) if not answer["items"] else ""

    nothing = "no item that may be shown meets the filter"
    upper, other = await reason("brand == 'PUMA'"), await reason("price > 0 and sizes in ['4']")
    assert upper.startswith(f"{nothing}; brand has puma, asics, nike; ")
    assert other.startswith(f"{nothing}; sizes has 0, 1, 2, 3, x; ")
    assert (await reason("brand == 'puma' and price > 1000")).startswith(f"{nothing}; nothing ")
    # Excluded items meet it.
    assert nothing not in await reason("item_id in ['item-03']")


async def test_of_many_values_the_first_are_told(
    setting: Setting, client: httpx.AsyncClient
) -> None:
    for number, item_id in enumerate(ITEMS):
        setting.catalog.apply(item_record(item_id, 2, attributes={"shade": f"s{number:02}"}))
    answer = await client.get("/v1/trending", params={"filter": "shade == 'S30'"})
    assert "; shade has s30, s00, s01, s02, s03, …; " in answer.json()["reason"]


async def test_an_expression_that_is_no_filter_is_refused_with_its_place(
    client: httpx.AsyncClient,
) -> None:
    for answer in (
        await client.get("/v1/trending", params={"filter": "price <"}),
        await client.post("/v1/recommendations", json={"user_id": "a", "filter": "price <"}),
    ):
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["field"].endswith(".filter") and error["code"] == "invalid_filter"
        assert error["reason"] == "invalid syntax (at position 7)"
    answer = await client.get("/v1/trending", params={"filter": "a" * 2_001})
    assert answer.status_code == 422


async def test_a_mask_of_many_items_is_made_once_for_all_who_wait_and_in_a_thread(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by: list[str] = []

    def noted(*arguments: object) -> object:
        made_by.append(threading.current_thread().name)
        return mask(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(filter_masks, "_MANY", 1)
    monkeypatch.setattr(filter_masks, "mask", noted)
    asked = {"n": 3, "filter": 'brand == "nike"'}
    answers = await asyncio.gather(
        *(client.get("/v1/recommendations/ada", params=asked) for _ in range(3))
    )
    assert all(number % 3 == 0 for answer in answers for number in numbers(answer))
    assert len(made_by) == 1
    assert made_by[0] != threading.main_thread().name
