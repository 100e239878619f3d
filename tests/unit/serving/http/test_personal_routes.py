"""Slates asked by query and by body: pages, fields, fresh events, deadlines, too much at once."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest

from services.serving.request.store_reads import KeyRates
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.fakes import FakeOnline, Setting, item_record, model, visitor

TRENDING = [("item-30", 9.0), ("item-31", 8.0)]


@pytest.fixture
def setting(bundle: Bundle) -> Setting:
    made = Setting(FakeOnline({"ada": visitor("item-03", "item-04")}, TRENDING), model(bundle, "7"))
    made.catalog.apply(item_record("item-05", attributes={"title": "Five", "price": 5}))
    made.catalog.apply(item_record("item-06", attributes={"colour": "red", "size": {"cm": 3}}))
    return made


@pytest.fixture
async def client(setting: Setting) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(make_app(setting)), base_url=URL)


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


@pytest.mark.parametrize("by_body", [False, True])
async def test_pages_repeat_nothing_though_the_visitor_goes_on(
    setting: Setting, client: httpx.AsyncClient, by_body: bool
) -> None:
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"n": 8, "cursor": cursor}
        if by_body:
            answer = await client.post("/v1/recommendations", json={"user_id": "ada", **query})
        else:
            answer = await client.get("/v1/recommendations/ada", params=query)
        pages.append(ids(answer))
        cursor = answer.json()["next_cursor"]
        setting.online.visitors["ada"] = visitor("item-03", "item-04", f"item-{20 + len(pages)}")
    listed = [item_id for page in pages for item_id in page]
    assert [len(page) for page in pages][:-1] == [8] * (len(pages) - 1)
    assert len(listed) == len(set(listed)) >= 36


async def test_a_cursor_that_no_answer_gave_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/recommendations/ada", params={"cursor": "1abc"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "invalid_cursor"


@pytest.mark.parametrize("fields", [["price", "colour"], "price,colour", "colour, price"])
async def test_fields_choose_among_the_attributes(
    client: httpx.AsyncClient, fields: str | list[str]
) -> None:
    answer = await client.get("/v1/recommendations/ada", params={"n": 1, "fields": fields})
    assert answer.json()["items"][0]["attributes"] == {"price": 5}


async def test_a_field_that_no_item_has_is_refused_with_the_one_that_is_meant(
    setting: Setting, client: httpx.AsyncClient
) -> None:
    by_query = await client.get("/v1/trending", params={"fields": "titel,item_id,size"})
    by_body = await client.post(
        "/v1/recommendations", json={"user_id": "ada", "fields": ["titel", "title"]}
    )
    reason = "no item has an attribute titel; did you mean title?"
    for answer, field in ((by_query, "query.fields"), (by_body, "body.fields")):
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {"field": field, "reason": reason, "code": "unknown_name"}
        ]
    # One that an item had is known, and so is any while the catalogue is empty.
    setting.catalog.apply(item_record("item-06", timestamp=2))
    assert (await client.get("/v1/trending?fields=colour")).status_code == 200
    empty = httpx.ASGITransport(make_app(Setting(FakeOnline({}, TRENDING), None)))
    async with httpx.AsyncClient(transport=empty, base_url=URL) as other:
        assert (await other.get("/v1/trending?fields=titel")).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommendations/ada?placement=hoem", None),
        ("/v1/popular?placement=hoem", None),
        ("/v1/recommendations", {"user_id": "ada"}),
        ("/v1/sessions:recommend", {"events": []}),
        ("/v1/rank", {"user_id": "ada", "items": ["item-01"]}),
        ("/v1/recommendations:batch", {"user_ids": ["ada"]}),
    ],
)
async def test_a_placement_that_does_not_exist_is_refused(
    setting: Setting, client: httpx.AsyncClient, path: str, body: dict[str, Any] | None
) -> None:
    async def asked(name: str) -> httpx.Response:
        if body is None:
            return await client.get(path.replace("hoem", name))
        return await client.post(path, json={**body, "placement": name})

    assert (await asked("hoem")).status_code == 200  # placements are not known yet
    setting.placements = {"home", "cart"}
    answer = await asked("hoem")
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["code"]) == (422, "unknown_name")
    assert error["field"] in ("query.placement", "body.placement")
    assert error["reason"] == "there is no placement hoem yet; did you mean home?"
    assert (await asked("home")).status_code == 200


async def test_events_of_the_request_come_after_those_that_are_known(
    setting: Setting, client: httpx.AsyncClient
) -> None:
    body: dict[str, Any] = {"user_id": "ada", "n": 5, "events": [{"item_id": "item-24"}]}
    with_event = await client.post("/v1/recommendations", json=body)
    assert with_event.json()["history_length"] == 3
    assert ids(with_event)[0] == "item-25"
    setting.online.away = True
    without_store = await client.post("/v1/recommendations", json=body)
    assert (without_store.json()["answered_by"], without_store.json()["history_length"]) == (
        "model",
        1,
    )
    assert without_store.json()["reason"].startswith("the online store does not answer")


async def test_a_new_visitor_with_an_event_is_answered_by_the_model(
    client: httpx.AsyncClient,
) -> None:
    body = {"user_id": "nobody", "events": [{"item_id": "item-10", "event_type": "click"}]}
    answer = (await client.post("/v1/recommendations", json=body)).json()
    assert (answer["answered_by"], answer["reason"]) == ("model", "")
    assert answer["items"][0]["item_id"] == "item-11"


async def test_where_the_model_would_miss_the_deadline_trending_items_answer(
    setting: Setting, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting.line._load, "_list_s", 0.4)
    late = await client.get("/v1/recommendations/ada", params={"deadline_ms": 300, "n": 2})
    assert late.json()["answered_by"] == "trending"
    assert "the deadline is 300" in late.json()["reason"]
    monkeypatch.setattr(setting.line._load, "_list_s", 0.01)
    in_time = await client.get("/v1/recommendations/ada", params={"deadline_ms": 300, "n": 2})
    assert in_time.json()["answered_by"] == "model"


async def test_more_requests_than_can_be_answered_in_time_are_refused(
    setting: Setting, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting.line._load, "_list_s", 0.3)
    answers = await asyncio.gather(*(client.get("/v1/recommendations/ada") for _ in range(8)))
    assert [answer.status_code for answer in answers] == [200] * 4 + [503] * 4
    assert answers[-1].json()["code"] == "overloaded"
    assert answers[-1].headers["retry-after"] == "2"
    assert (await client.get("/v1/recommendations/ada")).status_code == 200


async def test_explanations_that_would_wait_too_long_are_refused_and_lists_are_not(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.serving.request.explaining.LONGEST_S", 0.3)
    asked = [{"explain": True}] * 8 + [{"explain": False}] * 8
    answers = await asyncio.gather(
        *(client.get("/v1/recommendations/ada", params=each) for each in asked)
    )
    assert [answer.status_code for answer in answers] == [200] * 4 + [503] * 4 + [200] * 8
    assert all("reasons" in answer.json() for answer in answers[:4])


async def test_a_key_may_ask_for_so_many_lists_a_second(setting: Setting) -> None:
    app = make_app(setting)
    app.state.parts = replace(app.state.parts, rates=KeyRates(2))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        answers = [await client.get("/v1/trending") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].headers["retry-after"] == "1"


async def test_what_a_page_has_shown_is_left_out_whichever_step_answers(
    client: httpx.AsyncClient,
) -> None:
    first = await client.get("/v1/trending", params={"n": 1})
    second = await client.get(
        "/v1/trending", params={"n": 1, "cursor": first.json()["next_cursor"]}
    )
    assert (ids(first), ids(second)) == (["item-30"], ["item-31"])


async def test_similar_items_are_ordered_for_a_visitor_who_is_known(
    setting: Setting, client: httpx.AsyncClient
) -> None:
    setting.online.visitors["bob"] = visitor("item-14", "item-15")

    async def similar(**asked: Any) -> list[str]:
        return ids(await client.get("/v1/similar/item-10", params={"n": 8, **asked}))

    plain, personal = await similar(), await similar(user_id="bob", personal=True)
    assert await similar(user_id="bob") == plain
    assert personal != plain and personal[0] == "item-16"
    # The order is the visitor's, the choice is the item's.
    body = {"user_id": "bob", "items": personal}
    assert personal == ids(await client.post("/v1/rank", json=body))
    assert await similar(user_id="nobody", personal=True) == plain
