import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from services.ingestion.intake import key_in_header
from services.ingestion.settings import IngestionSection, configured_keys
from slipstream.chassis.access.guard import demand_of, routes_of
from slipstream.chassis.access.keys import KeyRing
from slipstream.contracts.access import BROWSER_SCOPES, INGESTION_SCOPES, Scope
from tests.unit.chassis.access.key_records import key_record
from tests.unit.ingestion.collector import AUTH, Acknowledging, collecting
from tests.unit.ingestion.payloads import track

PAGE = {"Origin": "https://shop.example"}
BROWSER = ("in-the-page", "")


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def test_key_of_the_settings_gives_name_and_scopes() -> None:
    ring = KeyRing(configured_keys("shop:s3cret, app:other:with-colon", "page:shown", "*"))
    held = {key: ring.find(key) for key in ("s3cret", "other:with-colon", "shown", "shop", "")}
    assert [known and known.principal.name for known in held.values()] == [
        "shop", "app", "page", None, None,
    ]  # fmt: skip
    shop, page = held["s3cret"], held["shown"]
    assert shop and page
    assert (shop.principal.scopes, shop.principal.browser) == (INGESTION_SCOPES, False)
    assert (page.principal.scopes, page.principal.browser) == (BROWSER_SCOPES, True)


def test_keys_are_not_held_in_the_clear() -> None:
    assert "s3cret" not in repr(configured_keys("shop:s3cret", "", "*"))


@pytest.mark.parametrize("configured", ["", " , ", "shop", "shop:", ":key", "a:k,b:k", "a:k,a:l"])
def test_bad_configuration_is_refused_with_the_variable_s_name(configured: str) -> None:
    with pytest.raises(ValueError, match="SLIPSTREAM_INGESTION__WRITE_KEYS"):
        configured_keys(configured, "", "*")


@pytest.mark.parametrize("browsers", ["page", "page:s3cret", "shop:other"])
def test_bad_browser_keys_are_refused_with_the_variable_s_name(browsers: str) -> None:
    with pytest.raises(ValidationError, match="SLIPSTREAM_INGESTION__BROWSER_KEYS"):
        IngestionSection(write_keys=SecretStr("shop:s3cret"), browser_keys=SecretStr(browsers))


def test_key_is_the_user_name_of_basic_authentication() -> None:
    assert key_in_header(basic("s3cret:")) == "s3cret"
    assert key_in_header(basic("s3cret")) == "s3cret"
    assert key_in_header("Bearer s3cret") == "s3cret"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!",
        "Bearer ",
        "Digest s3cret",
        "Basic " + base64.b64encode(b"\xff:").decode(),
    ],
)
def test_other_headers_hold_no_key(header: str) -> None:
    assert key_in_header(header) is None


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/items", {"items": [{"item_id": "a"}]}),
        ("POST", "/v1/users", {"users": [{"user_id": "a"}]}),
        ("DELETE", "/v1/items/a", None),
        ("DELETE", "/v1/users/a", None),
        ("POST", "/v1/import", {"batch": []}),
    ],
)
def test_a_key_in_a_page_can_neither_change_the_catalogue_nor_erase_nor_import(
    method: str, path: str, body: object
) -> None:
    producer = Acknowledging()
    with collecting(producer, browser_keys=SecretStr(f"page:{BROWSER[0]}")) as client:
        refused = client.request(method, path, json=body, auth=BROWSER)
        allowed = client.request(method, path, json=body, auth=AUTH)
        assert client.post("/v1/track", json=track(), auth=BROWSER).json()["accepted"] == 1
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert allowed.status_code == 200


def test_a_browser_key_is_taken_from_allowed_origins_only() -> None:
    section = {"browser_keys": SecretStr(f"page:{BROWSER[0]}"), "cors_origins": PAGE["Origin"]}
    with collecting(Acknowledging(), **section) as client:

        def sent(auth: tuple[str, str], **headers: str) -> int:
            return client.post("/v1/track", json=track(), auth=auth, headers=headers).status_code

        assert sent(BROWSER, **PAGE) == 200
        assert sent(BROWSER, Origin="https://evil.example") == sent(BROWSER) == 403
        assert sent(AUTH) == 200


def test_a_page_s_key_has_no_other_scope_whatever_its_record_grants(client: TestClient) -> None:
    granted = key_record("page", ["events", "catalogue", "erase", "import"], browser=True)
    client.app.state.keys.take(granted)  # type: ignore[attr-defined]
    for method, path in (("DELETE", "/v1/users/u"), ("POST", "/v1/items"), ("POST", "/v1/import")):
        body = {"batch": [], "items": []}
        assert client.request(method, path, json=body, auth=("page", "")).status_code == 403
    assert client.post("/v1/track", json=track(), auth=("page", "")).status_code == 200


def test_every_other_scope_together_opens_no_route(client: TestClient) -> None:
    for scope in Scope:
        others = [other for other in Scope if other != scope]
        client.app.state.keys.take(key_record(f"all-but-{scope}", others))  # type: ignore[attr-defined]
        client.app.state.keys.take(key_record(f"only-{scope}", [scope]))  # type: ignore[attr-defined]
    every = {"userId": "u", "batch": []}
    pixel = {"data": '{"type": "page", "userId": "u"}'}
    asked = 0
    for route in routes_of(client.app):  # type: ignore[arg-type]
        scope = demand_of(route).scope
        path = route.path_format.format_map(dict.fromkeys(route.param_convertors, "x"))
        for method in route.methods or () if scope is not None else ():
            entries = path.rpartition("/")[2]  # the only field of the catalogue's lists
            body = {entries: []} if entries in ("items", "users") else every
            content: dict[str, Any] = {"json": body} if method in ("POST", "PATCH") else {}
            content |= {"params": pixel} if path.endswith("pixel.gif") else {}
            refused = client.request(method, path, auth=(f"all-but-{scope}", ""), **content)
            assert refused.status_code == 403, (method, path)
            held = client.request(method, path, auth=(f"only-{scope}", ""), **content)
            assert held.status_code not in (401, 403), (method, path, held.text)
            asked += 1
    assert asked >= 20


def test_rates_of_a_page_s_key_hold_without_a_setting() -> None:
    section = IngestionSection(write_keys=SecretStr("shop:s3cret"))
    assert section.browser_key_records_per_s > 0 and section.browser_visitor_records_per_s > 0


def test_messages_of_a_batch_need_the_scope_of_their_kind(client: TestClient) -> None:
    client.app.state.keys.take(key_record("events-only", ["events"]))  # type: ignore[attr-defined]
    identify = {"type": "identify", "userId": "u", "anonymousId": "a"}
    batch = {"batch": [track(type="track"), identify, identify | {"type": "alias"}]}
    answer = client.post("/v1/batch", json=batch, auth=("events-only", "")).json()
    assert [result.get("code") for result in answer["results"]] == [
        None, "scope_missing", "scope_missing",
    ]  # fmt: skip
    assert client.post("/v1/identify", json=identify, auth=("events-only", "")).status_code == 403
