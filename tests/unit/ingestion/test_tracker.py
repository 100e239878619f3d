"""Delivery of the tracker. Its behaviour in a page is tested in test_tracker.mjs, run by Node."""

import gzip
import json
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.ingestion import tracker
from services.ingestion.settings import configured_keys
from slipstream.chassis.access.keys import KeyRing
from slipstream.chassis.access.page_tokens import PageTokens
from slipstream.contracts.page_visitors import id_of_secret

HERE = Path(__file__).parent
DOCS = HERE.parents[2] / "docs"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(
    NODE is None, reason="node is not installed; Debian, Ubuntu: apt install nodejs"
)
# Node's built-in parser, held to one edition of the language.
PARSE = (
    "require('internal/deps/acorn/acorn/dist/acorn')"
    ".parse(require('fs').readFileSync(0, 'utf8'), {ecmaVersion: 2017})"
)


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.add_api_route(
        "/v1/slipstream.js", tracker.serve, methods=["GET", "HEAD"], include_in_schema=False
    )
    return TestClient(app)


def test_it_is_served_with_a_tag_and_may_be_kept(client: TestClient) -> None:
    answer = client.get("/v1/slipstream.js", headers={"Accept-Encoding": "identity"})
    assert (answer.status_code, answer.content) == (200, tracker.SCRIPT.read_bytes())
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "max-age=" in answer.headers["cache-control"]
    assert answer.headers["vary"] == "Accept-Encoding"
    for held in (answer.headers["etag"], f'"other", {answer.headers["etag"]}', "*"):
        again = client.get("/v1/slipstream.js", headers={"If-None-Match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (
            304,
            b"",
            answer.headers["etag"],
        )
    assert (
        client.get("/v1/slipstream.js", headers={"If-None-Match": 'W/"other"'}).status_code == 200
    )
    assert client.head("/v1/slipstream.js").status_code == 200


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip, deflate, br", True),
        ("*", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("gzip;q=0", False),
        ("br", False),
        ("", False),
    ],
)
def test_it_travels_compressed_where_that_is_accepted(
    client: TestClient, accepted: str, compressed: bool
) -> None:
    with client.stream("GET", "/v1/slipstream.js", headers={"Accept-Encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding") == ("gzip" if compressed else None)
    assert (gzip.decompress(raw) if compressed else raw) == tracker.SCRIPT.read_bytes()


def test_it_stays_small() -> None:
    assert len(gzip.compress(tracker.SCRIPT.read_bytes())) < 7 * 1024


@needs_node
def test_it_is_javascript_of_2017() -> None:
    command = [str(NODE), "--expose-internals", "-e", PARSE]
    ended = subprocess.run(
        command, input=tracker.SCRIPT.read_bytes(), capture_output=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr.decode()


@needs_node
def test_its_behaviour_in_a_page() -> None:
    command = [str(NODE), "--test", "--test-reporter=spec", str(HERE / "test_tracker.mjs")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stdout[-6_000:] + ended.stderr


@needs_node
def test_an_id_is_the_one_that_serving_computes() -> None:
    script = tracker.SCRIPT.read_text("utf-8")
    (function,) = re.findall(r"  function idOf\(.*?\n  }\n", script, re.DOTALL)
    secrets = [str(uuid.UUID(int=7**n)) for n in range(40)]
    call = f"{function} process.stdout.write(JSON.stringify({json.dumps(secrets)}.map(idOf)))"
    ended = subprocess.run(
        [str(NODE), "-e", call], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(ended.stdout) == [id_of_secret(secret) for secret in secrets]


@needs_node
def test_the_documented_signature_counts() -> None:
    key = "a-server-key-of-thirty-two-letters"
    (script,) = re.findall(r"```js\n(.*?)```", (DOCS / "tracker.md").read_text("utf-8"), re.DOTALL)
    call = f"process.stdout.write(userToken({key!r}, 'ada', 'a1'))"
    ended = subprocess.run(
        [str(NODE), "-e", script + call], capture_output=True, text=True, timeout=60, check=True
    )
    tokens = PageTokens(KeyRing(configured_keys(f"shop:{key}", "", "*")))
    assert tokens.doubt(ended.stdout, "ada", "a1") is None
    assert tokens.doubt(ended.stdout, "eve", "a1") == "wrong_user"
