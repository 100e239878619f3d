"""The protocol's routes, with every layer of the app around them."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from services.serving.open_inference import messages
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.app_on_fakes import URL, broken_parts, make_app
from tests.unit.serving.fakes import FakeOnline, Setting, model, visitor

INFER = "/v2/models/recommender/infer"
TOKEN = {"Authorization": "Bearer a-long-enough-token"}


@pytest.fixture
def setting(bundle: Bundle) -> Setting:
    online = FakeOnline({"ada": visitor("item-03", "item-04")}, [("item-20", 2.0)])
    return Setting(online, model(bundle, "7"))


@pytest.fixture
def client(setting: Setting) -> Iterator[TestClient]:
    app = make_app(setting, api_token="a-long-enough-token", max_body_bytes=1_000_000)
    client = TestClient(app, URL, headers=TOKEN, raise_server_exceptions=False)
    yield client
    client.close()


def in_json(*visitors: str, **changes: Any) -> bytes:
    shape = [len(visitors)]
    tensor = {"name": "user_id", "shape": shape, "datatype": "BYTES", "data": list(visitors)}
    return orjson.dumps({"id": "42", "inputs": [tensor], **changes})


def test_a_client_that_asks_for_binary_outputs_gets_json(client: TestClient) -> None:
    """`tritonclient` asks for them wherever no output is named."""
    wanted = [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "items"}]
    for asked in ({}, {"outputs": wanted}):
        body = in_json("ada", "bob", parameters={"binary_data_output": True, "n": 3}, **asked)
        answer = client.post(INFER, content=body)
        assert answer.headers["content-type"] == "application/json"
        items, scores = answer.json()["outputs"]
        assert (items["data"][0], items["data"][3:]) == ("item-05", ["item-20", "", ""])
        assert (items["shape"], len(scores["data"])) == ([2, 3], 6)


BINARY = {"Inference-Header-Content-Length": "90"}
SIZE = {"name": "user_id", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 7}}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "said"),
    [
        ("GET", "/v2/nowhere", b"", {}, 404, "Not Found"),
        ("DELETE", "/v2", b"", {}, 405, "Method Not Allowed"),
        ("GET", "/v2", b"", {"Authorization": "Bearer wrong"}, 401, "Authorization"),
        ("GET", "/v2/models/other", b"", {}, 404, "there is no model 'other'"),
        ("GET", "/v2/models/recommender/versions/9", b"", {}, 404, "version '9'"),
        ("POST", "/v2/models/other/infer", in_json("ada"), {}, 404, "there is no model 'other'"),
        ("POST", INFER, b"", {}, 400, "not JSON"),
        ("POST", INFER, b"[]", {}, 400, "valid dictionary"),
        ("POST", INFER, b"\xff", {}, 400, "not JSON"),
        ("POST", INFER, b"[" * 5_000, {}, 400, "not JSON"),
        ("POST", INFER, in_json("ada"), BINARY, 400, "as JSON alone"),
        ("POST", INFER, orjson.dumps({"inputs": [SIZE]}), {}, 400, "binary_data=False"),
        ("POST", INFER, in_json("ada"), {"Content-Encoding": "gzip"}, 400, "without Content-Encod"),
        ("POST", "/v2/repository/index", b"", {}, 404, "Not Found"),
        ("POST", INFER, in_json(*"a" * 65), {}, 400, "more than 64 values"),
        ("POST", INFER, b" " * 600_000, {}, 413, "more than 524288 bytes"),
        ("POST", INFER, b" " * 1_000_001, {}, 413, "MAX_BODY_BYTES"),
        ("POST", "/v2/repository/models/recommender/load", b"{}", {}, 404, "Not Found"),
    ],
)
def test_every_error_is_as_the_protocol_has_it(
    client: TestClient,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    said: str,
) -> None:
    answer = client.request(method, path, content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]
    assert answer.headers["x-request-id"]


def test_a_failure_is_as_the_protocol_has_it(client: TestClient) -> None:
    client.app.state.parts = broken_parts()  # type: ignore[attr-defined]
    with capture_logs():  # a terminal's log would print every local variable, for seconds
        answer = client.post(INFER, content=in_json("ada"))
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    assert "AttributeError" in answer.json()["error"]


def test_other_routes_keep_their_problems(client: TestClient) -> None:
    for path in ("/v1/nowhere", "/v20", "/v1/recommendations/ada?n=0"):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"]


def test_a_request_for_nothing_but_the_head_has_no_body(client: TestClient) -> None:
    answer = client.head("/v2/nowhere")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


def test_without_a_model_others_answer(client: TestClient, setting: Setting) -> None:
    setting.model = None
    assert client.get("/v2/models/recommender").json()["versions"] == []
    assert client.get("/v2/models/recommender/ready").status_code == 503
    assert client.get("/v2/health/ready").status_code == 503
    answer = client.post(INFER, content=in_json("ada")).json()
    assert (answer["model_version"], answer["parameters"]["answered_by"]) == ("none", "trending")


def test_an_answer_has_the_fields_that_the_document_names(client: TestClient) -> None:
    inferred = client.post(INFER, content=in_json("ada", "bob")).json()
    assert messages.InferenceResponse.model_validate(inferred).model_dump() == inferred
