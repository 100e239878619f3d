"""The page of the API: it loads nothing from another host."""

import re

import pytest
from fastapi.testclient import TestClient

from tests.unit.chassis.test_app import an_app


def test_every_file_of_the_page_comes_from_the_service() -> None:
    with TestClient(an_app()) as client:
        page = client.get("/docs")
        assert page.status_code == 200 and "'/openapi.json'" in page.text
        linked = re.findall(r'(?:src|href)="([^"]*)"', page.text)
        assert len(linked) == 3
        for path in linked:
            assert re.fullmatch(r"/docs/[a-z.-]+", path)
            answer = client.get(path)
            assert answer.status_code == 200 and len(answer.content) > 1_000, path
        assert not re.search(r"//[a-z]", page.text)
        assert "default-src 'self'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/redoc", "/docs/redoc.standalone.js", "/docs/..%2fcore.py", "/docs/oauth2-redirect"]
)
def test_nothing_else_of_the_package_is_served(path: str) -> None:
    with TestClient(an_app()) as client:
        assert client.get(path).status_code == 404
