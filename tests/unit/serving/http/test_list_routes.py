"""The routes of lists over the whole app, on a pipeline of fakes."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from slipstream.recommender.bundle import Bundle
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.fakes import FakeOnline, Setting, item_record, model, visitor
from tests.unit.serving.request.test_audiences import a_shop

NAMES = [f"visitor-{number}" for number in range(70)]


@pytest.fixture
def setting(bundle: Bundle) -> Setting:
    visitors = {name: visitor("item-03", f"item-{4 + at % 9:02}") for at, name in enumerate(NAMES)}
    online = FakeOnline(visitors, [("item-30", 9.0)], {"day": [("item-31", 4.0)]})
    setting = Setting(online, model(bundle, "7"))
    setting.catalog.apply(item_record("item-09", 5, attributes={"category": "shoes"}))
    return setting


@pytest.fixture
async def client(setting: Setting) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(setting))
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        yield client


async def answer(request: Any) -> dict[str, Any]:
    response = await request
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


@pytest.mark.parametrize(
    ("path", "step", "first"),
    [
        ("/v1/popular?window=day", "popular", "item-31"),
        ("/v1/new?attributes=true", "new", "item-09"),
        ("/v1/recently-viewed/visitor-1", "recent", "item-05"),
        ("/v1/bought-together/item-03", "similar", "item-04"),
    ],
)
async def test_each_list_is_a_slate_that_is_recorded(
    client: httpx.AsyncClient, setting: Setting, path: str, step: str, first: str
) -> None:
    body = await answer(client.get(path, params={"placement": "home"} | dict(_query(path))))
    assert (body["answered_by"], body["items"][0]["item_id"]) == (step, first)
    (slate,) = setting.slates
    assert (slate.recommendation_id, slate.placement, slate.purpose, slate.answered_by) == (
        body["recommendation_id"],
        "home",
        "shown",
        step,
    )


async def test_a_cart_is_a_body_and_unknown_items_have_no_say(client: httpx.AsyncClient) -> None:
    cart = {"items": ["item-03", "item-04", "nothing"], "n": 3, "user_id": "ada"}
    body = await answer(client.post("/v1/bought-together", json=cart))
    assert len(body["items"]) == 3 and body["user_id"] == "ada"
    assert not {"item-03", "item-04"} & {item["item_id"] for item in body["items"]}


async def test_the_lists_of_a_batch_are_those_of_single_requests(
    client: httpx.AsyncClient, setting: Setting
) -> None:
    wanted: dict[str, Any] = {"n": 4, "exclude": ["item-07"], "filter": "item_id not in seen"}
    names = [*NAMES, "nobody"]
    batch = await answer(
        client.post("/v1/recommendations:batch", json=wanted | {"user_ids": names})
    )
    assert {slate.purpose for slate in setting.slates} == {"batch"}
    assert len({slate.recommendation_id for slate in setting.slates}) == len(names)
    for name, made in zip(names, batch["lists"], strict=True):
        single = await answer(client.get(f"/v1/recommendations/{name}", params=wanted))
        del single["recommendation_id"], single["next_cursor"], made["recommendation_id"]
        assert made == single


@pytest.mark.parametrize(
    ("method", "path", "request_", "field"),
    [
        ("GET", "/v1/popular", {"params": {"window": "year"}}, "query.window"),
        ("GET", "/v1/new", {"params": {"filter": "price <"}}, "query.filter"),
        ("GET", "/v1/recently-viewed/" + "x" * 257, {}, "path.user_id"),
        ("POST", "/v1/bought-together", {"json": {"items": []}}, "body.items"),
        ("POST", "/v1/bought-together", {"json": {"items": ["a"] * 51}}, "body.items"),
        ("POST", "/v1/recommendations:batch", {"json": {"user_ids": []}}, "body.user_ids"),
        (
            "POST",
            "/v1/recommendations:batch",
            {"json": {"user_ids": ["a"] * 1_001}},
            "body.user_ids",
        ),
        (
            "POST",
            "/v1/recommendations:batch",
            {"json": {"user_ids": ["a"] * 201, "n": 100}},
            "body",
        ),
    ],
)
async def test_bad_requests_are_told_what_is_wrong(
    client: httpx.AsyncClient, method: str, path: str, request_: dict[str, Any], field: str
) -> None:
    response = await client.request(method, path, **request_)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_companions_of_an_item_that_nobody_knows_are_not_found(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/v1/bought-together/nothing")
    assert (response.status_code, response.json()["code"]) == (404, "item_not_found")


def _query(path: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in httpx.URL(path).params.multi_items()]


def client_of(bundle: Bundle) -> httpx.AsyncClient:
    app = make_app(a_shop(bundle), api_token=SecretStr("secret"))
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url=URL,
        headers={"Authorization": "Bearer secret"},
    )


async def test_answer_names_users_with_score_and_place(bundle: Bundle) -> None:
    async with client_of(bundle) as client:
        answer = await client.get("/v1/users-for-item/item-05?n=1&among=2")
        assert answer.status_code == 200
        body = answer.json()
        (user,) = body.pop("users")
        assert 0 < user.pop("score") < 1
        assert user == {"user_id": "near", "place": 1, "active_at": 4}
        assert body == {
            "item_id": "item-05",
            "looked_at": 2,
            "already_met": 0,
            "active_since": 3,
            "active_until": 4,
            "model_version": "1",
            "reason": "",
        }


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("unheard-of", 404, "item_not_found"),
        ("item-05?n=1001", 422, "invalid_request"),
        ("item-05?among=5001", 422, "invalid_request"),
    ],
)
async def test_unknown_items_and_too_large_requests_are_refused(
    bundle: Bundle, path: str, status: int, code: str
) -> None:
    async with client_of(bundle) as client:
        answer = await client.get(f"/v1/users-for-item/{path}")
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_nobody_reads_it_without_credentials(bundle: Bundle) -> None:
    async with client_of(bundle) as client:
        answer = await client.get("/v1/users-for-item/item-05", headers={"Authorization": ""})
        assert answer.status_code == 401
