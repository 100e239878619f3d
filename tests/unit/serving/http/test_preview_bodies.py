"""The route of previews: what it takes and answers, and that it leaves no trace."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from slipstream.contracts.experiments import Experiment
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.fakes import FakeOnline, Setting, item_record, model, visitor

STRANGE = ["a/b/../c", "<img src=x onerror=alert(1)>", "שלום עולם", "ü" * 128, "%00\u202e"]


def no_experiment(placement: str, at_ms: int) -> Experiment | None:
    raise AssertionError(f"an experiment is looked for in {placement} at {at_ms}")


@pytest.fixture
def setting(bundle: Bundle) -> Setting:
    online = FakeOnline({"ada": visitor("item-03", "item-04")}, [("item-30", 9.0)])
    return Setting(online, model(bundle, "7"), experiment=no_experiment, kept_lists=10)


@pytest.fixture
async def client(setting: Setting) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(setting))
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        yield client


async def answer(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_preview_is_the_list_and_leaves_no_trace(
    client: httpx.AsyncClient, setting: Setting
) -> None:
    looked = await answer(client, "/v1/previews", user_id="ada", n=5, placement="home")
    assert setting.slates == []
    assert not any(
        sample.value
        for metric in setting.registry.collect()
        for sample in metric.samples
        if sample.name == "slipstream_recommendations_total"
    )
    shown = await answer(client, "/v1/recommendations", user_id="ada", n=5, explain=True)
    assert len(setting.slates) == 1
    same = ("items", "answered_by", "model_version", "history_length", "user_id")
    assert {name: looked[name] for name in same} == {name: shown[name] for name in same}
    assert looked["reasons"] == shown["reasons"]
    assert looked["items"][0]["reason_text"]


async def test_a_history_made_up_by_hand_stands_in_for_the_store(
    client: httpx.AsyncClient, setting: Setting
) -> None:
    setting.online.away = True
    history = [{"item_id": "item-25"}, {"item_id": "item-26", "event_type": "purchase"}]
    looked = await answer(client, "/v1/previews", history=history, n=3, about="item-25")
    assert looked["history_length"] == 2
    assert looked["about"]["fell"]["reason"] == "seen"
    numbers = [int(item["item_id"].removeprefix("item-")) for item in looked["items"]]
    assert all(number >= 20 for number in numbers), "of the other half of the items"
    none = await answer(client, "/v1/previews", history=[])
    assert "the history is empty" in none["reason"]


@pytest.mark.parametrize("name", STRANGE)
async def test_ids_may_be_anything(client: httpx.AsyncClient, setting: Setting, name: str) -> None:
    setting.catalog.apply(item_record(name, available=False))
    looked = await answer(client, "/v1/previews", user_id=name, about=name)
    assert looked["user_id"] == looked["about"]["item_id"] == name
    assert looked["about"]["fell"]["reason"] == "unavailable"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"user_id": "ada", "history": [], "events": [{"item_id": "a"}]}, 422, "invalid_request"),
        ({"user_id": "ada", "abuot": "item-05"}, 422, "invalid_request"),
        ({"user_id": "ada", "about": "ü" * 129}, 422, "invalid_request"),
        ({"user_id": "ada", "about": "unheard-of"}, 404, "item_not_found"),
        ({"user_id": "ada", "history": [{"item_id": "a"}] * 1_001}, 422, "invalid_request"),
    ],
)
async def test_what_can_t_be_previewed_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, code: str
) -> None:
    response = await client.post("/v1/previews", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    if "abuot" in body:
        assert "about" in response.text


async def test_attributes_and_language_are_as_of_recommendations(
    client: httpx.AsyncClient, setting: Setting
) -> None:
    setting.catalog.apply(item_record("item-05", attributes={"title": "Tasse", "price": 3}))
    body = {"user_id": "ada", "n": 40, "fields": ["title"]}
    response = await client.post("/v1/previews", json=body, headers={"Accept-Language": "de"})
    assert response.headers["content-language"] == "de"
    found = {item["item_id"]: item["attributes"] for item in response.json()["items"]}
    assert found["item-05"] == {"title": "Tasse"}
    assert (await client.post("/v1/previews", json=body | {"fields": ["titel"]})).status_code == 422
