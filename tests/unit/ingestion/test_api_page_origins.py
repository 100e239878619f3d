"""CORS for pages, with and without named origins."""

from fastapi.testclient import TestClient

from tests.unit.ingestion.collector import AUTH, KEY, Acknowledging, collecting
from tests.unit.ingestion.payloads import track


def test_pages_of_every_origin_are_let_in_unless_some_are_named(client: TestClient) -> None:
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/v1/track", headers=asked).headers["access-control-allow-origin"] == "*"
    answer = client.post("/v1/track", json=track(), auth=AUTH, headers=asked)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    with collecting(Acknowledging(), cors_origins="") as closed_client:
        assert closed_client.options("/v1/track", headers=asked).status_code == 405
    with collecting(
        Acknowledging(), cors_origins="https://shop.example, https://other.example"
    ) as open_client:
        allowed = open_client.options(
            "/v1/track", headers={**asked, "Access-Control-Request-Headers": "authorization"}
        )
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (
            200,
            "https://shop.example",
        )
        for key in (KEY, "wrong"):  # a page can read why it was refused
            answer = open_client.post("/v1/track", json=track(writeKey=key), headers=asked)
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        strange = open_client.options(
            "/v1/track", headers={**asked, "Origin": "https://evil.example"}
        )
        assert strange.status_code == 400
