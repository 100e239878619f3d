"""Requests of strangers' pages, and names that were pointed at this machine."""

import pytest
from fastapi.testclient import TestClient

from slipstream.chassis.access.guard import KnownHosts
from slipstream.chassis.settings import ServiceSettings
from tests.unit.chassis.test_app import an_app

HOSTS = KnownHosts(["Recs.shop.example"])


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        ("127.0.0.1:8003", None, None),
        ("[::1]:8003", "http://[::1]:8003", None),
        ("localhost:8003", "http://localhost:8003", None),
        ("training:8003", None, None),
        ("recs.shop.example", "https://recs.shop.example", None),
        ("10.0.0.7:8003", "https://recs.shop.example", None),
        (None, None, None),
        ("evil.example:8003", "http://evil.example:8003", "foreign_host"),
        ("evil.example", None, "foreign_host"),
        ("", None, "foreign_host"),
        ("127.0.0.1:8003", "https://evil.example", "foreign_origin"),
        ("127.0.0.1:8003", "http://127.0.0.1:8000", "foreign_origin"),
        ("127.0.0.1:8003", "null", "foreign_origin"),
        (None, "https://evil.example", "foreign_origin"),
        ("127.0.0.1:8003", "http://[", "foreign_origin"),
    ],
)
def test_hosts_and_origins(host: str | None, origin: str | None, code: str | None) -> None:
    refusal = HOSTS.check(
        host.encode() if host is not None else None, origin.encode() if origin else None
    )
    assert (refusal.code if refusal else None) == code


def test_a_star_takes_any_name_and_page() -> None:
    assert KnownHosts(["*"]).check(b"a.example", b"https://b.example") is None


def refusals(settings: ServiceSettings, **headers: str) -> tuple[int, int]:
    """The statuses of a request that changes something, and of one that reads."""
    with TestClient(an_app(settings)) as client:
        changed = client.post("/body", json={"size": 1}, headers=headers)
        return changed.status_code, client.get("/echo", headers=headers).status_code


def test_a_service_that_asks_for_no_credentials_answers_no_stranger_s_page() -> None:
    settings = ServiceSettings()
    assert refusals(settings, Host="localhost") == (200, 200)
    assert refusals(settings, Host="evil.example") == (403, 403)
    assert refusals(settings, Host="localhost", Origin="https://evil.example") == (403, 403)


def test_a_service_with_credentials_checks_what_changes_something() -> None:
    settings = ServiceSettings(http={"api_token": "s3cret", "hosts": "recs.example"})  # type: ignore[arg-type]
    token = {"Authorization": "Bearer s3cret"}
    assert refusals(settings, Host="evil.example", **token) == (403, 200)
    assert refusals(settings, Origin="https://evil.example", **token) == (403, 200)
    assert refusals(settings, Host="recs.example", **token) == (200, 200)


def test_the_name_that_peers_call_a_service_by_is_known() -> None:
    settings = ServiceSettings(peers={"training_url": "http://training.prod.svc:8003"})  # type: ignore[arg-type]
    app = an_app(settings, name="training")
    with TestClient(app) as client:
        answer = client.post("/body", json={"size": 1}, headers={"Host": "training.prod.svc:8003"})
    assert answer.status_code == 200
