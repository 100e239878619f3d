"""Any JSON, any bytes and any header get an answer, and every rejection its reason."""

from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipstream.ingress.fields import Code
from tests.unit.ingestion.collector import AUTH
from tests.unit.ingestion.payloads import CALLS, json_values, messages, track

bodies = st.one_of(
    json_values,
    messages,
    st.builds(lambda batch: {"batch": batch}, st.lists(messages | json_values, max_size=4)),
    st.builds(lambda items: {"items": items}, st.lists(json_values, max_size=4)),
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from([*CALLS, "batch", "import", "items", "users"]), bodies)
def test_any_json_body_is_answered_and_every_rejection_explained(
    client: TestClient, path: str, body: Any
) -> None:
    answer = client.post(f"/v1/{path}", content=orjson.dumps(body), auth=AUTH)
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert answer.json()["code"] == "invalid_body"
        return
    for result in answer.json()["results"]:
        assert result["status"] == "accepted" or (result["code"] in set(Code) and result["reason"])


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=60)
    | st.sampled_from(
        [b"[" * 2_000, b'{"batch":[' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"]}", b"1e999"]
    )
)
def test_any_bytes_are_answered_without_a_failure(client: TestClient, body: bytes) -> None:
    assert client.post("/v1/batch", content=body, auth=AUTH).status_code in (200, 400)


@pytest.mark.parametrize("header", [b"Basic \x80", b"Basic =", b"Basic gA==", b"Bearer x", b"\xff"])
def test_authorization_that_can_t_be_read_is_refused(client: TestClient, header: bytes) -> None:
    answer = client.post("/v1/track", json=track(), headers=[(b"Authorization", header)])  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_write_key")
