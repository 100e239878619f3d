"""The console's pages: every address, their files, and the policy that each of them has."""

import gzip

import pytest
from fastapi.testclient import TestClient

from services.monitoring.app import create_app
from services.monitoring.console.http import pages
from services.monitoring.console.http.pages import StaticFile
from services.monitoring.settings import MonitoringSettings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def console(**monitoring: object) -> TestClient:
    settings = MonitoringSettings(monitoring=monitoring, http={"api_token": "s3cret"})  # type: ignore[arg-type]
    return TestClient(create_app(settings))


@pytest.mark.parametrize(
    "address",
    [
        *("/", "/flow", "/live?topic=dead-letters.v1", "/visitors", "/items"),
        *("/visitors/ada", "/visitors/a%2Fb%3Cscript%3E", "/items/a/b/c", "/items/%D7%A9%D7%9C"),
    ],
)
def test_every_address_of_the_console_is_one_document_with_its_policy(address: str) -> None:
    answer = console().get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.content == (pages.STATIC / "index.html").read_bytes()
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("address", ["/nowhere", "/flow/x", "/docs", "/shop"])
def test_a_browser_at_an_unknown_address_gets_the_document(address: str) -> None:
    answer = console().get(address, headers=BROWSER)
    assert answer.status_code == 404
    assert answer.content == (pages.STATIC / "index.html").read_bytes()
    assert answer.headers["content-security-policy"] == POLICY
    assert console().get(address).json()["code"] == "not_found"


def test_an_unknown_address_of_the_api_is_a_problem_for_a_browser_too() -> None:
    assert console().get("/v1/nowhere", headers=BROWSER).json()["code"] == "not_found"


def test_the_shop_is_there_where_the_settings_open_it() -> None:
    closed = console().get("/shop")
    assert (closed.status_code, closed.json()["code"]) == (404, "not_found")
    assert "SLIPSTREAM_MONITORING__SHOP" in closed.json()["detail"]
    for more, origin in (
        ({}, "http://127.0.0.1:8001"),
        ({"shop_ingestion_url": "https://events.example"}, "https://events.example"),
    ):
        opened = console(shop=True, **more).get("/shop")
        policy = opened.headers["content-security-policy"]
        assert policy == POLICY.replace("connect-src 'self'", f"connect-src 'self' {origin}")


@pytest.mark.parametrize("url", ["events.example", "https://a.example; script-src *", "ftp://a"])
def test_an_address_of_ingestion_adds_nothing_else_to_the_policy(url: str) -> None:
    with pytest.raises(ValueError, match="shop_ingestion_url"):
        console(shop=True, shop_ingestion_url=url)


def test_files_stay_in_browsers_and_are_compressed_for_those_who_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = b"export const a = 1;\n" * 100
    files = {
        "assets/index-abc.js": StaticFile(script, gzip.compress(script), "text/javascript"),
        "index.html": StaticFile(b"<!doctype html>", None, "text/html"),
    }
    monkeypatch.setattr(pages, "static_files", lambda: files)
    client = console()
    for accepted, encoding in (("gzip, br", "gzip"), ("identity", None)):
        answer = client.get("/assets/index-abc.js", headers={"Accept-Encoding": accepted})
        assert answer.content == script
        assert answer.headers.get("content-encoding") == encoding
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "name", ["nothing.js", "../index.html", "..%2Findex.html", "%2e%2e/settings.py", ""]
)
def test_no_other_file_is_sent(name: str) -> None:
    answer = console().get(f"/assets/{name}")
    assert answer.status_code == 404 or answer.url.path == "/index.html"
    assert answer.json()["code"] == "not_found"


def test_files_are_read_from_the_package() -> None:
    assert pages.static_files()["index.html"].content.startswith(b"<!doctype html>")
    assert all(not name.startswith("/") for name in pages.static_files())


@pytest.mark.parametrize("name", ["/service_down.md", "/service_down", "", "/README.md"])
def test_the_runbook_is_text_for_everyone(name: str) -> None:
    answer = console().get(f"/runbook{name}")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    first, *_ = answer.text.splitlines()
    assert first == ("# service_down" if "service" in name else "# Runbook")


def test_an_unknown_page_of_the_runbook_is_told_the_name_meant() -> None:
    answer = console().get("/runbook/servce_down.md")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"].endswith("did you mean service_down?")


def test_pages_learn_what_they_need_before_a_sign_in() -> None:
    told = console().get("/v1/console").json()
    assert told.pop("version")
    assert told == {"shop": False, "ingestion_url": None, "browser_key": None, "sign_in": True}
    told = console(shop=True, shop_key="public").get("/v1/console").json()
    assert (told["shop"], told["ingestion_url"], told["browser_key"]) == (
        True, "http://127.0.0.1:8001", "public",
    )  # fmt: skip
