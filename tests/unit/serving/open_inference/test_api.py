"""The protocol's routes, with every layer of the app around them."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel
from structlog.testing import capture_logs

from services.serving.open_inference import binary, bodies
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


def in_binary(*visitors: str, **changes: Any) -> tuple[bytes, dict[str, str]]:
    """The body of a request with a binary tensor, and its header."""
    data = binary.encode("BYTES", visitors)
    tensor = {
        "name": "user_id",
        "shape": [len(visitors)],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data)},
    }
    head = orjson.dumps({"inputs": [tensor], **changes})
    return head + data, {"Inference-Header-Content-Length": str(len(head))}


def test_binary_tensors_are_answered_with_binary_tensors(client: TestClient) -> None:
    body, headers = in_binary("ada", "bob", parameters={"binary_data_output": True, "n": 3})
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    head = orjson.loads(answer.content[:length])
    items, scores = head["outputs"]
    size = items["parameters"]["binary_data_size"]
    found = binary.decode_strings(answer.content[length : length + size], 6)
    assert found[0] == "item-05"
    assert found[3:] == ["item-20", "", ""]
    assert np.frombuffer(answer.content[length + size :], "<f4").shape == (6,)
    assert scores["parameters"]["binary_data_size"] == 24
    assert (items["shape"], head["model_version"]) == ([2, 3], "7")


def test_each_output_may_be_asked_for_in_its_way(client: TestClient) -> None:
    wanted = [{"name": "scores", "parameters": {"binary_data": True}}, {"name": "items"}]
    answer = client.post(INFER, content=in_json("ada", outputs=wanted))
    length = int(answer.headers["inference-header-content-length"])
    items, scores = orjson.loads(answer.content[:length])["outputs"]
    assert items["data"][0] == "item-05"
    assert "data" not in scores
    assert len(answer.content) == length + 40
    wanted = [{"name": "items", "parameters": {"binary_data": False}}]
    body = in_json("ada", outputs=wanted, parameters={"binary_data_output": True})
    answer = client.post(INFER, content=body)
    assert "inference-header-content-length" not in answer.headers
    assert [output["name"] for output in answer.json()["outputs"]] == ["items"]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_bodies_may_be_packed_both_ways(
    client: TestClient, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    body, headers = in_binary(*["ada"] * 8, parameters={"binary_data_output": True})
    headers |= {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    answer = client.post(INFER, content=pack(body), headers=headers)
    assert (answer.status_code, answer.headers["content-encoding"]) == (200, encoding)
    head = orjson.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    assert head["outputs"][0]["shape"] == [8, 10]


@pytest.mark.parametrize("accept", ["", "identity", "gzip;q=0"])
def test_a_client_that_takes_no_packing_gets_none(client: TestClient, accept: str) -> None:
    answer = client.post(INFER, content=in_json(*["ada"] * 8), headers={"Accept-Encoding": accept})
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"


BOMB = gzip.compress(b" " * 20_000_000, mtime=0)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "said"),
    [
        ("GET", "/v2/nowhere", b"", {}, 404, "Not Found"),
        ("DELETE", "/v2", b"", {}, 405, "Method Not Allowed"),
        ("GET", "/v2", b"", {"Authorization": "Bearer wrong"}, 401, "Authorization"),
        ("GET", "/v2/models/other", b"", {}, 404, "there is no model 'other'"),
        ("GET", "/v2/models/recommender/versions/9", b"", {}, 404, "version '9'"),
        ("GET", "/v2/models/recommender/versions/9/config", b"", {}, 404, "version '9'"),
        ("GET", "/v2/models/recommender/versions/9/stats", b"", {}, 404, "version '9'"),
        ("POST", "/v2/models/other/infer", in_json("ada"), {}, 404, "there is no model 'other'"),
        ("POST", INFER, b"", {}, 400, "not JSON"),
        ("POST", INFER, b"[]", {}, 400, "valid dictionary"),
        ("POST", INFER, b"\xff", {}, 400, "not JSON"),
        ("POST", INFER, b"[" * 5_000, {}, 400, "not JSON"),
        ("POST", INFER, in_binary("ada")[0], {}, 400, "Inference-Header-Content-Length"),
        ("POST", INFER, in_json("ada"), {"Inference-Header-Content-Length": "x"}, 400, "length"),
        ("POST", INFER, in_json(*"a" * 65), {}, 400, "more than 64 values"),
        ("POST", INFER, in_json("ada"), {"Content-Encoding": "br"}, 400, "gzip or deflate"),
        ("POST", INFER, in_json("ada"), {"Content-Encoding": "gzip"}, 400, "not gzip"),
        ("POST", INFER, BOMB, {"Content-Encoding": "gzip"}, 413, "more than 524288 bytes"),
        ("POST", INFER, b" " * 600_000, {}, 413, "more than 524288 bytes"),
        ("POST", INFER, b" " * 1_000_001, {}, 413, "MAX_BODY_BYTES"),
        ("POST", "/v2/repository/index", b"[]", {}, 400, "ready"),
        ("POST", "/v2/repository/index", b"{", {}, 400, "not JSON"),
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


def test_the_server_names_its_extensions(client: TestClient) -> None:
    assert client.get("/v2").json()["extensions"] == [
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
        "parameters",
        "statistics",
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready":true}'])
def test_the_repository_has_the_model_in_service(client: TestClient, body: bytes) -> None:
    index = client.post("/v2/repository/index", content=body).json()
    assert index == [{"name": "recommender", "version": "7", "state": "READY", "reason": ""}]


def test_without_a_model_the_repository_says_why(client: TestClient, setting: Setting) -> None:
    setting.model = None
    [entry] = client.post("/v2/repository/index").json()
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "no model is loaded yet")
    assert client.post("/v2/repository/index", content=b'{"ready":true}').json() == []
    refused = client.get("/v2/models/recommender/config")
    assert (refused.status_code, refused.json()) == (404, {"error": "no model is loaded yet"})
    assert client.get("/v2/models/recommender/ready").status_code == 503
    answer = client.post(INFER, content=in_json("ada")).json()
    assert (answer["model_version"], answer["parameters"]["answered_by"]) == ("none", "trending")


def test_the_configuration_has_the_tensors_of_the_metadata(client: TestClient) -> None:
    for path in ("/v2/models/recommender", "/v2/models/recommender/versions/7"):
        configured, described = client.get(f"{path}/config").json(), client.get(path).json()
        for theirs, ours in (("input", "inputs"), ("output", "outputs")):
            assert [(one["name"], one["dims"]) for one in configured[theirs]] == [
                (one["name"], one["shape"]) for one in described[ours]
            ]
        assert configured["parameters"]["most_visitors"] == {"string_value": "64"}
        assert configured["version_policy"]["specific"]["versions"] == described["versions"]


def test_statistics_count_what_was_answered_and_refused(client: TestClient) -> None:
    client.post(INFER, content=in_json("ada", "bob"))
    client.post(INFER, content=in_json("ada", parameters={"n": 0}))
    for path in ("", "/recommender", "/recommender/versions/7"):
        [of_model] = client.get(f"/v2/models{path}/stats").json()["model_stats"]
        assert (of_model["inference_count"], of_model["execution_count"]) == (2, 1)
        assert of_model["inference_stats"]["success"]["ns"] > 0
        assert of_model["inference_stats"]["fail"]["count"] == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", bodies.ServerMetadata),
        ("/health/live", bodies.ServerLive),
        ("/health/ready", bodies.ServerReady),
        ("/models/stats", bodies.ModelStatistics),
        ("/models/recommender/stats", bodies.ModelStatistics),
        ("/models/recommender", bodies.ModelMetadata),
        ("/models/recommender/config", bodies.ModelConfiguration),
        ("/models/recommender/ready", bodies.ModelReady),
    ],
)
def test_answers_have_the_fields_that_the_document_names(
    client: TestClient, path: str, body: type[BaseModel]
) -> None:
    inferred = client.post(INFER, content=in_json("ada", "bob")).json()
    assert (
        bodies.InferenceResponse.model_validate(inferred).model_dump(exclude_unset=True) == inferred
    )
    (indexed,) = client.post("/v2/repository/index").json()
    assert bodies.IndexedModel.model_validate(indexed).model_dump() == indexed
    answer = client.get(f"/v2{path}").json()
    assert body.model_validate(answer).model_dump() == answer
