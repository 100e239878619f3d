"""What Segment's browser library asks for besides its events."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.ingestion.tracker import source_settings
from tests.unit.ingestion.collector import KEY, Acknowledging, collecting

PAGE = "in-the-page"
SHOP = {"Origin": "https://shop.example"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    keys = SecretStr(f"page:{PAGE}")
    budget: dict[str, Any] = {"address_kib_per_s": 1, "address_burst_kib": 4}
    with collecting(
        Acknowledging(), browser_keys=keys, cors_origins=SHOP["Origin"], **budget
    ) as made:
        yield made


def test_the_settings_lead_to_the_address_that_was_asked(client: TestClient) -> None:
    answer = client.get(f"https://events.shop.example/v1/projects/{PAGE}/settings", headers=SHOP)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == SHOP["Origin"]
    assert "private" in answer.headers["cache-control"]
    assert answer.json() == {
        "integrations": {
            "Segment.io": {
                "apiKey": PAGE,
                "apiHost": "events.shop.example/v1",
                "protocol": "https",
            }
        },
        "metrics": {"sampleRate": 0},
    }
    assert client.get(f"/v1/projects/{KEY}/settings").status_code == 200


@pytest.mark.parametrize("host", ["", "a b", "a/b", "evil.example:80:80", "[::1", "x" * 254, "a\n"])
def test_a_host_that_is_no_name_is_left_out(host: str) -> None:
    assert json.loads(source_settings("k", "http", host))["integrations"] == {
        "Segment.io": {"apiKey": "k"}
    }


@pytest.mark.parametrize("host", ["localhost:8001", "[::1]:8001", "10.0.0.1", "a-b.example"])
def test_hosts_with_and_without_a_port(host: str) -> None:
    destination = json.loads(source_settings("k", "http", host))["integrations"]["Segment.io"]
    assert destination == {"apiKey": "k", "apiHost": f"{host}/v1", "protocol": "http"}


def test_an_unknown_key_and_a_foreign_page_are_refused(client: TestClient) -> None:
    unknown = client.get("/v1/projects/nobody/settings", headers=SHOP)
    assert (unknown.status_code, unknown.json()["code"]) == (401, "invalid_write_key")
    foreign = client.get(
        f"/v1/projects/{PAGE}/settings", headers={"Origin": "https://elsewhere.example"}
    )
    assert (foreign.status_code, foreign.json()["code"]) == (403, "foreign_origin")


def test_counts_of_the_library_are_taken_within_the_budget_of_an_address(
    client: TestClient,
) -> None:
    counts = {"series": [{"type": "Counter", "metric": "analytics_js.invoke", "value": 1}]}
    answers = [
        client.post("/v1/m", content=json.dumps(counts), headers={"Content-Type": "text/plain"})
        for _ in range(20)
    ]
    assert answers[0].json() == {"success": True}
    assert answers[-1].status_code == 429
    assert client.get("/v1/projects/nobody/settings").status_code == 429
