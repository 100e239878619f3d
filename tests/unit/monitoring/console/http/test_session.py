"""Sign-in at the console: each refusal, and each way in which a session ends."""

import json
import logging
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from services.monitoring.app import create_app
from services.monitoring.console.http.session import SessionParts
from services.monitoring.console.session_repository import SessionBook
from services.monitoring.settings import MonitoringSettings
from slipstream.chassis.access.sessions import LENGTH_MS
from slipstream.contracts.access import Scope
from tests.unit.chassis.access.key_records import key_record

TOKEN = "s3cret"
OWN = {"Origin": "http://127.0.0.1:8005"}
SAME = {"Sec-Fetch-Site": "same-origin"}


class Console:
    """Monitoring with a table of sessions, and a clock."""

    def __init__(self, db: Engine, token: str = TOKEN) -> None:
        self.db, self.now = db, 1_700_000_000_000
        self.app = self.started(token)
        self.client = self.browser()

    def started(self, token: str = TOKEN) -> FastAPI:
        """Another instance, on the same table."""
        app = create_app(MonitoringSettings(http={"api_token": token}))  # type: ignore[arg-type]
        sessions, book = app.state.sessions, SessionBook(self.db)
        sessions._clock = lambda: self.now
        sessions.restore(book.all())
        app.state.session_parts = SessionParts(book, sessions)
        return app

    def browser(self, app: FastAPI | None = None, url: str = "http://127.0.0.1:8005") -> TestClient:
        return TestClient(app or self.app, base_url=url, raise_server_exceptions=False)

    def sign_in(self, credential: str = TOKEN) -> Any:
        return self.client.post("/v1/session", json={"credential": credential}, headers=OWN)


@pytest.fixture
def console(db: Engine) -> Console:
    return Console(db)


def test_a_session_stands_for_its_credential(console: Console) -> None:
    signed_out: dict[str, Any] = {
        "needed": True,
        "signed_in": False,
        "name": None,
        "scopes": [],
        "expires_at": None,
        "addresses": {},
    }
    assert console.client.get("/v1/session").json() == signed_out
    signed_in = console.sign_in()
    body = signed_in.json()
    assert (signed_in.status_code, body["signed_in"], body["name"]) == (200, True, "api-token")
    assert body["expires_at"] == console.now + LENGTH_MS
    assert body["addresses"]["serving"] == "http://127.0.0.1:8004"
    assert {"read", "operate", "admin"} <= set(body["scopes"])
    cookie = signed_in.headers["set-cookie"]
    assert cookie.startswith("slipstream_session=")
    assert {"HttpOnly", "Path=/", "SameSite=strict", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert console.client.get("/v1/session", headers=SAME).json() == body
    # The guard lets it through to a route that needs a scope, which then lacks its parts.
    assert console.client.get("/v1/timeline", headers=SAME).status_code == 500
    assert console.client.get("/v1/timeline", headers={"Origin": OWN["Origin"]}).status_code == 500


def test_over_tls_the_cookie_is_of_this_host_alone(console: Console) -> None:
    browser = console.browser(url="https://console.example")
    settings = {"Origin": "https://console.example"} | SAME
    made = browser.post("/v1/session", json={"credential": "s3cret"}, headers=settings)
    cookie = made.headers["set-cookie"]
    assert cookie.startswith("__Host-slipstream_session=") and "; Secure" in cookie
    assert browser.get("/v1/session", headers=SAME).json()["signed_in"]


def test_sql_has_no_secret(console: Console) -> None:
    console.sign_in()
    secret = console.client.cookies["slipstream_session"]
    with console.db.connect() as db:
        (row,) = db.execute(text("SELECT * FROM monitoring_sessions")).all()
    kept = json.dumps([str(value) for value in row])
    assert secret not in kept and "s3cret" not in kept
    assert row.principal == "api-token"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:8004"},
        {"Origin": "http://localhost:8005"},
        {"Origin": "https://127.0.0.1:8005"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {},
    ],
)
def test_a_request_by_session_from_elsewhere_is_refused(
    console: Console, headers: dict[str, str]
) -> None:
    console.sign_in()
    for method, path in (
        ("GET", "/v1/timeline"),
        ("PUT", "/v1/placements/home"),
        ("GET", "/v1/stream"),
        ("GET", "/v1/session"),
        ("DELETE", "/v1/session"),
    ):
        refused = console.client.request(method, path, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin"), path
    assert console.client.get("/v1/session", headers=SAME).json()["signed_in"]


def test_a_page_of_another_origin_signs_nobody_in(console: Console) -> None:
    for headers in ({"Origin": "http://127.0.0.1:8004"}, {"Sec-Fetch-Site": "cross-site"}):
        refused = console.client.post("/v1/session", json={"credential": "s3cret"}, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")
    # A program names no page.
    assert console.client.post("/v1/session", json={"credential": "s3cret"}).status_code == 200


def test_a_credential_that_is_no_text_is_wrong(console: Console) -> None:
    body = b'{"credential": "a.\\ud800.b"}'
    headers = {"Content-Type": "application/json", **OWN}
    assert console.client.post("/v1/session", content=body, headers=headers).status_code == 401


def test_a_credential_in_the_header_counts_before_a_cookie(console: Console) -> None:
    console.sign_in()
    wrong = console.client.get("/v1/timeline", headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "unauthorized")
    right = console.client.get("/v1/timeline", headers={"Authorization": "Bearer s3cret"})
    assert right.status_code == 500


def test_a_session_ends_at_sign_out(console: Console) -> None:
    console.sign_in()
    kept = dict(console.client.cookies)
    gone = console.client.delete("/v1/session", headers=OWN)
    assert gone.status_code == 204
    assert not console.client.cookies
    ended = console.client.get("/v1/timeline", headers=SAME | {
        "Cookie": f"slipstream_session={kept['slipstream_session']}"
    })  # fmt: skip
    assert (ended.status_code, ended.json()["code"]) == (401, "session_ended")
    assert SessionBook(console.db).all() == []
    assert console.client.delete("/v1/session").status_code == 204


def test_a_session_ends_after_twelve_hours(console: Console) -> None:
    console.sign_in()
    console.now += LENGTH_MS
    ended = console.client.get("/v1/timeline", headers=SAME)
    assert (ended.status_code, ended.json()["code"]) == (401, "session_ended")
    assert not console.client.get("/v1/session", headers=SAME).json()["signed_in"]


def test_a_revoked_key_ends_its_sessions(console: Console) -> None:
    ring = console.app.state.keys
    ring.take(key_record("key", ["read"]))
    assert console.sign_in("key").json()["scopes"] == ["read"]
    assert console.client.get("/v1/timeline", headers=SAME).status_code == 500
    missing = console.client.put("/v1/placements/home", headers=OWN, json={})
    assert (missing.status_code, missing.json()["code"]) == (403, "scope_missing")
    ring.take(key_record("key", ["read"], revoked_at=2))
    ended = console.client.get("/v1/timeline", headers=SAME)
    assert (ended.status_code, ended.json()["code"]) == (401, "session_ended")


def test_a_session_goes_on_at_the_instance_that_acts_next(console: Console) -> None:
    console.sign_in()
    another = console.browser(console.started())
    another.cookies = console.client.cookies
    assert another.get("/v1/session", headers=SAME).json()["signed_in"]
    other_token = console.browser(console.started("other"))
    other_token.cookies = console.client.cookies
    assert not other_token.get("/v1/session", headers=SAME).json()["signed_in"]


def test_signing_in_again_ends_the_session_before(console: Console) -> None:
    console.sign_in()
    before = console.client.cookies["slipstream_session"]
    console.sign_in()
    assert console.client.cookies["slipstream_session"] != before
    assert len(SessionBook(console.db).all()) == 1


def test_wrong_credentials_are_limited_as_elsewhere(console: Console) -> None:
    answers = [console.sign_in("wrong") for _ in range(6)]
    codes = [(answer.status_code, answer.json()["code"]) for answer in answers]
    assert codes == [(401, "unauthorized")] * 5 + [(429, "wrong_credentials")]
    assert "retry-after" in answers[-1].headers
    assert console.sign_in().status_code == 200


def test_a_key_of_a_shops_page_signs_nobody_in(console: Console) -> None:
    console.app.state.keys.take(key_record("page", ["events", "recommend"], browser=True))
    refused = console.sign_in("page")
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")


def test_where_nothing_asks_for_credentials_nobody_signs_in(db: Engine) -> None:
    console = Console(db, token="")
    told = console.client.get("/v1/session").json()
    assert (told["needed"], told["signed_in"], told["name"]) == (False, False, None)
    assert Scope.OPERATE in told["scopes"]
    refused = console.sign_in()
    assert (refused.status_code, refused.json()["code"]) == (409, "no_sign_in")


def test_a_credential_is_in_no_answer_and_no_log(
    console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        wrong = console.client.post("/v1/session", json={"credential": "wr0ng", "x": 1})
    assert wrong.status_code == 422
    assert "wr0ng" not in wrong.text + caplog.text


def test_the_api_has_no_page_at_the_origin_of_sessions(console: Console) -> None:
    assert console.client.get("/docs").status_code == 404
