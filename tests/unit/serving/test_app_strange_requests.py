"""Requests that nobody should send, over serving's routes, with its parts whole and away.

Every request is answered with what its route documents, none fails, and none holds the event loop.
A sample runs with the other tests; `make fuzz` runs thousands, FUZZ_CASES of each kind.
"""

import asyncio
import gzip
import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.broker.records import decode, encode
from slipstream.chassis.errors import UnavailableError
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.recommender.bundle import Bundle
from tests import fuzzing
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.fakes import FakeOnline, Setting, model, visitor
from tests.unit.serving.strange_bodies import INFER, WORST, almost, any_json, any_text

many = fuzzing.many(3)
# CPU time of one request, the client's share included. The event loop is held for less.
MOST_CPU_S: Final = 0.2
JSON: Final = {"Content-Type": "application/json"}
LENGTH: Final = "Inference-Header-Content-Length"


class Session:
    """The app with a client, and counts of the outcomes of all cases."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.model = setting, setting.model
        self.app = make_app(setting)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url=URL)
        self.runner = asyncio.Runner()
        self.seen: Counter[str] = Counter()
        self.longest_s = 0.0

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        for _ in range(4):  # the least counts: the interpreter may do something else meanwhile
            began = time.thread_time()
            answer = self.runner.run(self.client.request(method, path, **request))
            spent_s = time.thread_time() - began
            if spent_s <= MOST_CPU_S:
                break
        self.longest_s = max(self.longest_s, spent_s)
        assert spent_s <= MOST_CPU_S, f"{method} {path} held the event loop"
        self.seen[f"status {answer.status_code}"] += 1
        self._judge(answer, path)
        return answer

    def set_parts(self, away: str) -> None:
        """Take the store, the model or nothing away."""
        self.setting.online.away = away == "store"
        self.setting.model = None if away == "model" else self.model

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()

    def _judge(self, answer: httpx.Response, path: str) -> None:
        for slate in self.setting.slates:
            assert decode(RECOMMENDATIONS, encode(slate)) == slate
        self.setting.slates.clear()
        not_ready = answer.status_code == UnavailableError.status and path.endswith("/ready")
        assert answer.status_code < 500 or not_ready, answer.text
        if answer.status_code >= 400 and not not_ready:
            problem = answer.json()
            if path.startswith("/v2"):
                assert list(problem) == ["error"] and problem["error"], problem
            else:
                assert problem["code"] and problem["detail"], problem
        elif path == INFER:
            length = answer.headers.get("inference-header-content-length")
            message = orjson.loads(answer.content[: int(length) if length else None])
            assert message["outputs"]
        elif path.startswith("/v1/") and path != "/v1/model":
            body = answer.json()
            for slate in body.get("lists", [body]):
                assert len(slate["items"]) <= 1_000
                assert slate["recommendation_id"]


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Session]:
    online = FakeOnline({"ada": visitor("item-03", "item-04")}, [("item-20", 2.0)])
    session = Session(Setting(online, model(bundle, "7")))
    yield session
    session.close()
    slowest = f"; at most {session.longest_s * 1000:.0f} ms of CPU"
    fuzzing.tell(request.config, session.seen.total(), session.seen, slowest)


parts = st.sampled_from(["nothing", "store", "model"])


@pytest.mark.parametrize("path", [*almost])
def test_any_body_is_answered(session: Session, path: str) -> None:
    bodies = st.one_of(
        almost[path].map(lambda value: json.dumps(value).encode()),
        any_json.map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=80),
        st.sampled_from(WORST),
    )
    encodings = st.sampled_from(["", "", "gzip", "deflate", "br", "identity"])

    @many
    @given(bodies, encodings, st.booleans(), parts)
    def tried(body: bytes, encoding: str, packed: bool, away: str) -> None:
        session.set_parts(away)
        if packed:
            body = zlib.compress(body, 1) if encoding == "deflate" else gzip.compress(body, 1)
        headers = {"Content-Encoding": encoding} if encoding else {}
        session.send("POST", path, content=body, headers=JSON | headers)

    tried()


@many
@given(
    names=st.lists(st.sampled_from(["ada", "x" * 256, "", "\0"]) | any_text, max_size=70),
    shape=st.integers(-1, 1),
    outputs=st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["items", "scores"]) | any_text},
            optional={"parameters": st.fixed_dictionaries({"binary_data": any_json}) | any_json},
        ),
        max_size=3,
    ),
    n=st.integers(-1, 101),
    right=st.booleans(),
    away=parts,
)
def test_any_tensor_is_answered(
    session: Session,
    names: list[str],
    shape: int,
    outputs: list[Any],
    n: int,
    right: bool,
    away: str,
) -> None:
    session.set_parts(away)
    if right:
        names = [name for name in names if _is_id(name)][:64] or ["ada"]
        n, shape, outputs = min(max(n, 1), 100), 0, []
    size = len(names) + shape
    tensor = {"name": "user_id", "shape": [size], "datatype": "BYTES", "data": names}
    parameters = {"n": n, "binary_data_output": right}
    body = json.dumps({"inputs": [tensor], "outputs": outputs, "parameters": parameters})
    answer = session.send("POST", INFER, content=body.encode())
    assert answer.status_code == 200 or not right, answer.text


def _is_id(name: str) -> bool:
    encoded = name.encode("utf-8", "replace")
    return 0 < len(encoded) <= 256 and encoded.decode() == name and "\0" not in name


CONTROLS: Final = dict.fromkeys([*range(32), 127])
PATHS: Final = [
    "/v1/recommendations/%s",
    "/v1/similar/%s",
    "/v1/recommendations/ada?n=%s",
    "/v1/recommendations/ada?exclude=%s&exclude=%s",
    "/v1/trending?user_id=%s&placement=%s",
    "/v1/popular?window=%s&filter=%s",
    "/v1/recently-viewed/%s",
    "/v1/bought-together/%s",
    "/v1/%s",
    "/v2/%s",
    "/v2/models/%s",
    "/v2/models/%s/versions/%s",
    "/v2/models/recommender/versions/%s/ready",
]


@pytest.mark.parametrize("path", PATHS)
def test_any_path_and_query_is_answered(session: Session, path: str) -> None:
    @many
    @given(st.binary(max_size=300), st.sampled_from(["", "/%2F", "&attributes=true"]), parts)
    def tried(value: bytes, rest: str, away: str) -> None:
        session.set_parts(away)
        session.send("GET", path.replace("%s", quote(value, safe="")) + rest)

    tried()


@many
@given(st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(["GET", "POST", "PUT"]))
def test_any_headers_are_answered(
    session: Session, value: bytes, length: bytes, method: str
) -> None:
    shown = {"Authorization": b"Bearer " + value, "X-Request-Id": value, LENGTH: length}
    headers = [
        (name.encode(), value.translate(None, bytes(CONTROLS)).strip())
        for name, value in shown.items()
    ]
    session.send(method, INFER, content=b"{}", headers=headers)
