"""Bad input of every kind, made by schemathesis from our own OpenAPI document and by hypothesis
from nothing.

No failure of the server, nothing on a topic that its contract does not allow, and an explanation
for every rejection. A sample runs with the other tests; `make fuzz` runs thousands, FUZZ_CASES of
each kind.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.python import asgi
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from slipstream.contracts.events import DeadLetter
from slipstream.gate.rejections import Code
from tests.unit.ingestion.collector import AUTH, KEY, Acknowledging, make_app
from tests.unit.ingestion.payloads import CALLS, messages

CASES = int(os.environ.get("FUZZ_CASES", "10"))
many = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[*HealthCheck],
    derandomize="FUZZ_CASES" not in os.environ,
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    *(("POST", f"/v1/{call}") for call in (*CALLS, "batch", "import", "items", "users")),
    ("GET", "/v1/pixel.gif"),
    ("DELETE", "/v1/items/{item_id}"),
    ("DELETE", "/v1/users/{user_id}"),
]


class Session:
    """The app with a client that schemathesis can use, and what became of all cases."""

    def __init__(self, app: FastAPI, producer: Acknowledging) -> None:
        self.producer = producer
        self.schema = schemathesis.openapi.from_dict(app.openapi())
        self.schema.app = app
        self.client = asgi.get_client(app)
        self.seen: Counter[str] = Counter()

    def send(self, method: str, url: str, **arguments: Any) -> Any:
        return self.judge(self.client.request(method, f"http://testserver{url}", **arguments))

    def judge(self, answer: Any) -> Any:
        """Nothing failed, what was refused is explained, and what was published keeps to the
        contracts.
        """
        assert answer.status_code < 500, answer.text
        self.seen[f"status {answer.status_code}"] += 1
        if _header(answer, "content-type") == "image/gif":
            assert _header(answer, "x-slipstream-verdict")
        elif answer.status_code == 200:
            for result in orjson.loads(answer.content)["results"]:
                assert result["status"] == "accepted" or (
                    result["code"] in set(Code) and result["reason"]
                ), result
                self.seen[result.get("code", result["status"])] += 1
        else:
            problem = orjson.loads(answer.content)
            assert problem["code"] and problem["detail"], problem
        published = (
            self.producer.published.copy()
        )  # which it decoded again by the contracts of their topics
        self.producer.published.clear()
        for outgoing in published:
            if isinstance(outgoing.record, DeadLetter):
                assert (
                    outgoing.record.code
                    and outgoing.record.reason
                    and outgoing.record.source == "shop"
                )
                assert KEY.encode() not in orjson.dumps(outgoing.record.original), (
                    outgoing.record.original
                )
        return answer


def _header(answer: Any, name: str) -> str:
    value = answer.headers[name]  # schemathesis has a list
    return value if isinstance(value, str) else value[0]


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    producer = Acknowledging()
    app = make_app(producer, max_batch_events=20, max_event_bytes=2_000, max_body_bytes=20_000)
    session = Session(app, producer)
    with session.client:
        yield session
    if "FUZZ_CASES" in os.environ:
        requests = sum(count for what, count in session.seen.items() if what.startswith("status"))
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{requests} requests: {dict(session.seen.most_common())}")


def test_every_operation_of_the_document_is_tried(session: Session) -> None:
    documented = {
        (operation.ok().method.upper(), operation.ok().path)
        for operation in session.schema.get_all_operations()
        if operation.ok().path.startswith("/v1/")
    }
    assert documented == set(OPERATIONS)


@pytest.mark.parametrize("mode", [*GenerationMode])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_document_says_is_true(
    session: Session, method: str, path: str, mode: GenerationMode
) -> None:
    operation = session.schema[path][method]

    @many
    @given(operation.as_strategy(generation_mode=mode))
    def tried(case: schemathesis.Case) -> None:
        answer = case.call(session=session.client, auth=AUTH)
        session.judge(answer)
        case.validate_response(answer, checks=CHECKS)
        if mode is GenerationMode.POSITIVE and path != "/v1/pixel.gif":
            assert answer.status_code in (200, 413), answer.text

    tried()


# Any text, halves of surrogate pairs and control characters too.
any_text = st.text(st.characters(), max_size=12)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.just(10**400),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(any_text, inner, max_size=4)
        | st.builds(
            lambda fields: {**fields, "writeKey": KEY}, st.dictionaries(any_text, inner, max_size=2)
        )
    ),
    max_leaves=10,
)
bodies = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [
            b"[" * 2_000,
            b'{"batch":[' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"]}",
            b"1e999",
            b'{"userId":"\\ud800"}',
        ]
    ),
    (
        any_json
        | messages
        | st.fixed_dictionaries({"batch": st.lists(any_json | messages, max_size=4)})
    ).map(lambda value: json.dumps(value).encode()),
)
PATHS = st.sampled_from([path for method, path in OPERATIONS if method == "POST"])


@many
@given(PATHS, bodies, st.sampled_from([None, "gzip", "identity", "br"]))
def test_any_body_is_answered(
    session: Session, path: str, body: bytes, encoding: str | None
) -> None:
    headers = {"Content-Encoding": encoding} if encoding else {}
    session.send("POST", path, data=body, auth=AUTH, headers=headers)


@many
@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=20), st.booleans())
def test_any_headers_are_answered(
    session: Session, authorization: bytes, agent: bytes, request_id: bytes, basic: bool
) -> None:
    shown = {
        "Authorization": (b"Basic " if basic else b"") + authorization,
        "User-Agent": agent,
        "X-Request-Id": request_id,
    }
    headers = {
        name: value.translate(None, b"\r\n\x00").decode("latin-1").strip()
        for name, value in shown.items()
    }
    session.send("POST", "/v1/track", data=b'{"writeKey":"%b"}' % KEY.encode(), headers=headers)


@many
@given(st.binary(max_size=60), st.binary(max_size=10), st.booleans())
def test_any_query_is_answered_with_a_picture(
    session: Session, data: bytes, key: bytes, right: bool
) -> None:
    answer = session.send(
        "GET", f"/v1/pixel.gif?data={quote(data)}&writeKey={KEY if right else quote(key)}"
    )
    assert answer.headers["content-type"] == "image/gif"


@many
@given(st.binary(min_size=1, max_size=300), st.sampled_from(["items", "users"]))
def test_any_id_in_a_path_is_answered(session: Session, entity_id: bytes, entities: str) -> None:
    session.send("DELETE", f"/v1/{entities}/{quote(entity_id, safe='')}", auth=AUTH)
