"""Receipts of erasures at ingestion, which asks monitoring for them."""

from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from slipstream.contracts.late_records import may_be_on_its_way, new_erasure_id
from slipstream.contracts.rest import ErasureReceipt
from slipstream.contracts.times import DAY_MS
from tests.unit.ingestion.collector import AUTH, Acknowledging

NOW = 1_790_000_000_000


def receipt(state: Any) -> httpx.Response:
    made = ErasureReceipt(erasure_id="e", state=state, complete=state == "complete", places=[])
    return httpx.Response(200, json=made.model_dump())


def test_who_erases_gets_the_receipt_from_the_same_door(
    client: TestClient, producer: Acknowledging
) -> None:
    erasure_id = client.delete("/v1/users/ada", auth=AUTH).json()["erasure_id"]
    asked = []

    def monitoring(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return receipt("requested" if len(asked) == 1 else "complete")

    producer.monitoring = monitoring
    first, second = (client.get(f"/v1/erasures/{erasure_id}", auth=AUTH) for _ in range(2))
    assert asked == [f"/v1/erasures/{erasure_id}"] * 2
    assert (first.status_code, first.json()["state"]) == (202, "requested")
    assert (second.status_code, second.json()["complete"]) == (200, True)


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (httpx.Response(404, json={}), 404, "no_erasure"),
        (httpx.Response(503, text="features at http://f can't be reached"), 503, ""),
        (httpx.Response(403, json={}), 503, ""),
        (httpx.Response(200, json={"something": "else"}), 503, ""),
        (httpx.Response(200, text="<html>"), 503, ""),
        (httpx.ConnectError("refused"), 503, ""),
    ],
)
def test_no_receipt_has_a_reason(
    client: TestClient, producer: Acknowledging, answer: Any, status: int, code: str
) -> None:
    def monitoring(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    producer.monitoring = monitoring
    refused = client.get("/v1/erasures/abc", auth=AUTH)
    assert refused.status_code == status
    assert refused.json()["code"] == (code or "receipt_unavailable")
    if status == 503:
        assert "monitoring" in refused.json()["detail"] and refused.headers["Retry-After"]


def test_a_strange_id_reaches_nobody(client: TestClient, producer: Acknowledging) -> None:
    producer.monitoring = lambda _: pytest.fail("asked")
    for strange in ("a%20b", "..%2Fkeys", "a" * 65):
        assert client.get(f"/v1/erasures/{strange}", auth=AUTH).status_code == 404


def test_the_id_tells_whether_it_may_be_on_its_way() -> None:
    made = new_erasure_id(NOW)
    assert len(made) == 32 and made != new_erasure_id(NOW)
    assert may_be_on_its_way(made, NOW + DAY_MS) and may_be_on_its_way(made, NOW - 60_000)
    assert not may_be_on_its_way(made, NOW + DAY_MS + 1)
    assert not may_be_on_its_way(made, NOW - DAY_MS)
    assert not may_be_on_its_way(made[:-1], NOW) and not may_be_on_its_way("x" * 32, NOW)
