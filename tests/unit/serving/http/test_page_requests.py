"""Pages that ask serving: a key that everyone can see, and the proof of one visitor."""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.serving.http.page_requests import PageReads
from services.serving.settings import ServingSection
from slipstream.chassis.access.page_tokens import public_key_of, signed_user
from slipstream.contracts.access import Scope
from slipstream.contracts.page_visitors import id_of_secret
from slipstream.recommender.bundle import Bundle
from tests.unit.chassis.access.key_records import key_record
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.fakes import ITEMS, FakeOnline, Setting, item_record, model, visitor

ORIGIN = "https://shop.example"
SERVER_KEY = "a-server-key-of-thirty-two-letters"
SECRET, OTHERS_SECRET = str(uuid.UUID(int=0xA11)), str(uuid.UUID(int=0xB0B))
DEVICE, OTHER = id_of_secret(SECRET) or "", id_of_secret(OTHERS_SECRET) or ""


@pytest.fixture(params=[True, False], ids=["with an API token", "without credentials"])
def client(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[TestClient]:
    """Serving with the keys of a page and a server, and a catalogue that has a secret attribute."""
    known = visitor("item-03", "item-04")
    online = FakeOnline({DEVICE: known, OTHER: known, "ada": known}, [(i, 1.0) for i in ITEMS])
    setting = Setting(online, model(bundle, "7"))
    for item_id in ITEMS:
        attributes = {"title": item_id.upper(), "margin": 0.4}
        setting.catalog.apply(item_record(item_id, attributes=attributes))
    own = ServingSection(cors_origins=f"{ORIGIN}, https://other.example")
    app = make_app(setting, own, api_token="t" * 32 if request.param else "")
    app.state.keys.take(
        key_record("page", [Scope.EVENTS, Scope.RECOMMEND], browser=True, origins=[ORIGIN])
    )
    app.state.keys.take(
        key_record(SERVER_KEY, [Scope.IDENTIFY], page_key=public_key_of(SERVER_KEY))
    )
    yield TestClient(app, URL)
    setting.line.close()


def ask(
    client: TestClient, who: str, proof: str = SECRET, path: str = "recommendations/", **query: Any
) -> Any:
    headers = {"Authorization": "Bearer page", "Origin": ORIGIN, "X-Slipstream-Proof": proof}
    return client.get(f"/v1/{path}{who}", params=query, headers=headers)


def test_a_page_reads_the_list_of_the_visitor_that_it_proves(client: TestClient) -> None:
    answer = ask(client, DEVICE, n=3, attributes=True)
    assert answer.status_code == 200, answer.text
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    body = answer.json()
    assert (body["user_id"], body["history_length"]) == (DEVICE, 2)
    assert [set(item["attributes"]) for item in body["items"]] == [{"title"}] * 3
    assert "attributes" not in ask(client, DEVICE, n=1).json()["items"][0]
    token = signed_user(SERVER_KEY, "ada", "any device", 600)
    assert ask(client, "ada", token).json()["history_length"] == 2
    assert ask(client, DEVICE, path="recently-viewed/").json()["items"][0]["item_id"] == "item-04"
    similar = ask(client, "item-03", path="similar/", user_id=DEVICE, personal=True, n=2)
    assert len(similar.json()["items"]) == 2


@pytest.mark.parametrize(
    ("who", "proof"),
    [
        (OTHER, SECRET),
        ("ada", SECRET),
        ("ada", "ada"),
        (DEVICE, ""),
        (DEVICE, DEVICE),
        (f"{DEVICE}~unproven", SECRET),
        (DEVICE, SECRET.upper()),
        ("eve", signed_user(SERVER_KEY, "ada", "a", 600)),
        ("ada", signed_user(SERVER_KEY, "ada", "a", 600, at=1_000_000)),
        ("ada", signed_user("a key that was never made for it.", "ada", "a", 600)),
    ],
)
def test_another_visitors_list_is_refused(client: TestClient, who: str, proof: str) -> None:
    for path in ("recommendations/", "recently-viewed/"):
        answer = ask(client, who, proof, path)
        assert (answer.status_code, answer.json()["code"]) == (403, "unproven_visitor")
        assert answer.headers["access-control-allow-origin"] == ORIGIN
    of_item = ask(client, "item-03", proof, "similar/", user_id=who, personal=True)
    assert of_item.json()["code"] == "unproven_visitor"


def test_a_list_of_no_visitor_and_what_pages_need_not_know_are_refused(client: TestClient) -> None:
    assert ask(client, "item-03", path="similar/").json()["code"] == "unproven_visitor"
    for query in ({"filter": "margin > 0.3"}, {"fields": "title,margin"}):
        answer = ask(client, DEVICE, **query)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_for_pages")
    explained = ask(client, DEVICE, n=2, explain=True).json()
    assert "reasons" not in explained and "rules" not in explained
    assert all(item["reason_text"] for item in explained["items"])


def test_a_page_with_a_key_that_serving_does_not_know_is_refused(client: TestClient) -> None:
    headers = {"Authorization": "Bearer of-ingestion", "X-Slipstream-Proof": SECRET}
    answer = client.get(f"/v1/recommendations/{DEVICE}?fields=url", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_a_pages_key_opens_nothing_else_and_comes_from_its_own_pages(client: TestClient) -> None:
    key = {"Authorization": "Bearer page", "X-Slipstream-Proof": SECRET}
    page = key | {"Origin": ORIGIN}
    for path in ("/v1/trending", "/v1/model", "/v1/users-for-item/item-03"):
        assert client.get(path, headers=page).json()["code"] == "scope_missing"
    body = {"user_id": DEVICE}
    refused = client.post("/v1/recommendations", json=body, headers=page)
    assert refused.json()["code"] in ("scope_missing", "foreign_origin")
    for headers in (key, key | {"Origin": "https://other.example"}):
        answer = client.get(f"/v1/recommendations/{DEVICE}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    keyless = client.get("/v1/recommendations/ada", headers={"Origin": ORIGIN})
    assert keyless.status_code in (401, 403)


def test_pages_of_the_listed_origins_may_ask(client: TestClient) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization,x-slipstream-proof",
    }
    allowed = client.options("/v1/recommendations/x", headers=asked)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
    strange = asked | {"Origin": "https://evil.example"}
    assert client.options("/v1/recommendations/x", headers=strange).status_code == 400
    posting = asked | {"Access-Control-Request-Method": "POST"}
    assert client.options("/v1/recommendations", headers=posting).status_code == 400


def test_a_pages_key_has_a_rate_of_its_own(client: TestClient) -> None:
    app = cast(FastAPI, client.app)
    slow = PageReads(app.state.keys, ServingSection(browser_lists_per_s=0.01))
    app.state.parts = replace(app.state.parts, pages=slow)
    answers = [ask(client, DEVICE, n=1) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert "SLIPSTREAM_SERVING__BROWSER_LISTS_PER_S" in answers[-1].json()["detail"]
    assert answers[-1].headers["Retry-After"]
    assert ask(client, OTHER).json()["code"] == "unproven_visitor"


def test_without_page_attributes_pages_read_none(client: TestClient) -> None:
    app = cast(FastAPI, client.app)
    none = PageReads(app.state.keys, ServingSection(page_attributes=""))
    app.state.parts = replace(app.state.parts, pages=none)
    items = ask(client, DEVICE, n=2, attributes=True).json()["items"]
    assert [item["attributes"] for item in items] == [{}, {}]


def test_an_id_is_the_hash_of_its_secret() -> None:
    digest = hashlib.sha256(f"slipstream visitor {SECRET}".encode()).digest()[:16]
    assert DEVICE == str(uuid.UUID(bytes=digest, version=4)) != OTHER
    for text in ("", "ada", DEVICE + "x", SECRET.upper()):
        assert id_of_secret(text) is None
