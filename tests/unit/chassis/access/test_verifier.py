"""Credentials: wrong ones of an address, and that without any a service is not exposed."""

import base64
import os
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.testclient import TestClient
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from services.start import service_command
from slipstream.chassis.access.verifier import (
    MOST_ADDRESSES,
    ExposedError,
    WrongCredentials,
    WrongCredentialsError,
    refuse_exposure,
)
from slipstream.chassis.errors import UnauthorizedError
from slipstream.chassis.settings import ServiceSettings
from tests.unit.chassis.access.key_records import key_record
from tests.unit.chassis.test_app import an_app
from tests.unit.ingestion.collector import KEY, Acknowledging, collecting
from tests.waiting import Clock

WRONG = UnauthorizedError("wrong")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(an_app(ServiceSettings(http={"api_token": "s3cret"}))) as client:  # type: ignore[arg-type]
        yield client


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def test_the_sixth_wrong_credential_in_a_minute_is_told_to_wait(clock: Clock) -> None:
    wrong = WrongCredentials(clock)
    for _ in range(5):
        assert wrong.refusal("198.51.100.7", WRONG) is WRONG
        clock.now += 10
    refused = wrong.refusal("198.51.100.7", WRONG)
    assert isinstance(refused, WrongCredentialsError)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "10")
    assert wrong.refusal("198.51.100.8", WRONG) is WRONG
    clock.now += 9.9
    assert wrong.refusal("198.51.100.7", WRONG) is not WRONG
    clock.now += 0.2
    # Five in any minute: the first is over, and the second is not.
    assert wrong.refusal("198.51.100.7", WRONG) is WRONG
    assert wrong.refusal("198.51.100.7", WRONG) is not WRONG


def test_a_household_counts_as_one_address(clock: Clock) -> None:
    wrong = WrongCredentials(clock)
    for number in range(5):
        assert wrong.refusal(f"2001:db8:1:2::{number}", WRONG) is WRONG
    assert wrong.refusal("2001:db8:1:2:ffff::", WRONG) is not WRONG
    assert wrong.refusal("2001:db8:1:3::", WRONG) is WRONG


def test_the_number_of_addresses_is_bounded_and_the_eldest_is_forgotten(clock: Clock) -> None:
    wrong = WrongCredentials(clock)
    for _ in range(5):
        wrong.refusal("first", WRONG)
    for number in range(MOST_ADDRESSES - 1):
        wrong.refusal(f"a{number}", WRONG)
    assert wrong.refusal("first", WRONG) is not WRONG
    wrong.refusal("one more", WRONG)
    assert len(wrong._times) == MOST_ADDRESSES
    assert wrong.refusal("first", WRONG) is WRONG


def test_a_right_credential_passes_where_wrong_ones_came_from(client: TestClient) -> None:
    answers = [client.get("/echo", headers=bearer(f"wrong-{number}")) for number in range(8)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
    last = answers[-1]
    assert last.headers["content-type"] == "application/problem+json"
    assert last.json()["code"] == "wrong_credentials"
    assert 0 < int(last.headers["retry-after"]) <= 60
    assert client.get("/echo", headers=bearer("s3cret")).status_code == 200


def test_missing_credentials_and_missing_scopes_are_no_guesses(client: TestClient) -> None:
    client.app.state.keys.take(key_record("only-operates", ["operate"]))  # type: ignore[attr-defined]
    for _ in range(10):
        assert client.get("/echo").status_code == 401
        assert client.get("/echo", headers=bearer("only-operates")).status_code == 403
    assert client.get("/echo", headers=bearer("wrong")).status_code == 401


async def test_an_address_behind_a_trusted_proxy_counts_alone(client: TestClient) -> None:
    app: FastAPI = client.app  # type: ignore[assignment]
    behind = ProxyHeadersMiddleware(app, trusted_hosts="10.0.0.1")
    seen: Counter[tuple[str, int]] = Counter()
    for proxy in ("10.0.0.1", "10.0.0.2"):
        transport = httpx.ASGITransport(behind, client=(proxy, 1))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://probe") as asking:
            for number in range(12):
                headers = bearer("wrong") | {"X-Forwarded-For": f"198.51.100.{number % 2}"}
                answer = await asking.get("/echo", headers=headers)
                seen[proxy, answer.status_code] += 1
    assert seen == {
        ("10.0.0.1", 401): 10,
        ("10.0.0.1", 429): 2,
        ("10.0.0.2", 401): 5,
        ("10.0.0.2", 429): 7,
    }


def test_wrong_write_keys_are_counted_however_they_come() -> None:
    event = {"event": "Product Viewed", "userId": "ada", "properties": {"product_id": "a"}}
    basic = base64.b64encode(b"wrong:").decode()
    with collecting(Acknowledging()) as client:
        answers = [
            client.post("/v1/track", json=event, headers={"Authorization": f"Basic {basic}"}),
            client.post("/v1/track", json=event, headers=bearer("wrong")),
            client.post("/v1/track", json=event | {"writeKey": "wrong"}),
            client.get("/v1/projects/wrong/settings"),
            client.get("/v1/pixel.gif", params={"data": "{}", "writeKey": "wrong"}),
            client.post("/v1/track", json=event | {"writeKey": "wrong"}),
            client.get("/v1/pixel.gif", params={"data": "{}", "writeKey": "wrong"}),
            client.delete("/v1/users/ada", headers=bearer("wrong")),
        ]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
        assert all(answer.headers["retry-after"] for answer in answers[5:])
        assert client.post("/v1/track", json=event).status_code == 401
        assert client.post("/v1/track", json=event, auth=(KEY, "")).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "shop.example", ""])
def test_beyond_loopback_credentials_are_required(host: str) -> None:
    with pytest.raises(ExposedError, match="SLIPSTREAM_HTTP__API_TOKEN"):
        an_app(ServiceSettings(http={"host": host}))  # type: ignore[arg-type]
    an_app(ServiceSettings(http={"host": host, "api_token": "t" * 32}))  # type: ignore[arg-type]
    an_app(ServiceSettings(http={"host": host}, access={"token_secret": "s" * 32}))  # type: ignore[arg-type]
    an_app(ServiceSettings(http={"host": host, "open_without_credentials": True}))  # type: ignore[arg-type]


@pytest.mark.parametrize("access", [{}, {"token_secret": "s" * 32}])
def test_beyond_loopback_a_short_api_token_is_refused(access: dict[str, str]) -> None:
    exposed = {"host": "0.0.0.0", "api_token": "t" * 31}
    with pytest.raises(ExposedError, match="API_TOKEN has fewer than 32 characters"):
        an_app(ServiceSettings(http=exposed, access=access))  # type: ignore[arg-type]
    an_app(ServiceSettings(http=exposed | {"open_without_credentials": True}))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.1", "::1", "localhost"])
def test_on_this_machine_they_are_not(host: str) -> None:
    refuse_exposure(ServiceSettings(http={"host": host}))  # type: ignore[arg-type]
    refuse_exposure(ServiceSettings(http={"host": host, "api_token": "dev"}))  # type: ignore[arg-type]


def test_the_refusal_is_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("SLIPSTREAM_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SLIPSTREAM_HTTP__HOST", "0.0.0.0")
    monkeypatch.setattr("slipstream.chassis.logging.configure_logging", lambda *_: None)
    ended = CliRunner().invoke(service_command("monitoring"))
    assert ended.exit_code == 1
    assert ended.output.startswith("Error: settings: SLIPSTREAM_HTTP__HOST=0.0.0.0 answers other")
    assert len(ended.output.splitlines()) == 1
