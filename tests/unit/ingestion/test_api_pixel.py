"""The pixel: a message in a picture's address."""

import base64
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from fastapi.testclient import TestClient

from tests.unit.ingestion.collector import KEY, Acknowledging, collecting
from tests.unit.ingestion.payloads import track

TOO_DEEP = b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"


def as_base64(message: Any, altchars: bytes | None = None) -> str:
    return base64.b64encode(orjson.dumps(message), altchars).decode()


@pytest.mark.parametrize("altchars", [None, b"-_"])
@pytest.mark.parametrize("escape", [True, False])
def test_pixel_takes_a_message(
    client: TestClient, producer: Acknowledging, altchars: bytes | None, escape: bool
) -> None:
    message = track(properties={"sku": "a", "note": "ÿþ?>~~ÿ?"})
    data = as_base64(message, altchars)
    answer = client.get(
        f"/v1/pixel.gif?data={quote(data, safe='') if escape else data.rstrip('=')}&writeKey={KEY}"
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.content.startswith(b"GIF89a") and len(answer.content) == 43
    assert (answer.headers["x-slipstream-verdict"], answer.headers["cache-control"]) == (
        "accepted",
        "no-store",
    )
    assert producer.interactions[0].properties["note"] == "ÿþ?>~~ÿ?"


@pytest.mark.parametrize(
    ("query", "status", "verdict"),
    [
        (f"data={quote(orjson.dumps({'userId': 'ada', 'event': 'Mail Opened'}))}&writeKey={KEY}",
         200, "accepted"),
        (f"data={as_base64({'type': 'page', 'userId': 'ada', 'writeKey': KEY})}", 200, "accepted"),
        (f"data={as_base64({'event': 'x'})}&writeKey={KEY}", 200,
         "rejected; code=missing_user; field=userId"),
        (f"data={as_base64(track())}", 401, "refused; code=invalid_write_key"),
        (f"data=!!&writeKey={KEY}", 400, "refused; code=invalid_json"),
        (f"data={as_base64([])}&writeKey={KEY}", 400, "refused; code=invalid_body"),
        (f"writeKey={KEY}", 400, "refused; code=invalid_body"),
        (f"data={quote(TOO_DEEP)}&writeKey={KEY}", 400, "refused; code=invalid_json"),
    ],
)  # fmt: skip
def test_pixel_is_a_picture_whatever_the_verdict(
    client: TestClient, query: str, status: int, verdict: str
) -> None:
    answer = client.get(f"/v1/pixel.gif?{query}")
    assert (answer.status_code, answer.headers["x-slipstream-verdict"]) == (status, verdict)
    assert answer.headers["content-type"] == "image/gif" and answer.content.startswith(b"GIF89a")


def test_pixel_while_the_broker_is_away_says_so(
    client: TestClient, producer: Acknowledging
) -> None:
    producer.away = True
    answer = client.get(f"/v1/pixel.gif?data={as_base64(track())}&writeKey={KEY}")
    assert (answer.status_code, answer.headers["x-slipstream-verdict"]) == (
        503,
        "refused; code=broker_unavailable",
    )
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "query", ["", "data=!!", "data=a", "data=%5B%5D", f"data={quote(TOO_DEEP)}"]
)
def test_an_address_that_sends_pixels_without_a_message_waits_after_a_flood(query: str) -> None:
    with collecting(Acknowledging(), address_kib_per_s=0.001, address_burst_kib=3) as client:
        codes = [client.get(f"/v1/pixel.gif?{query}").status_code for _ in range(8)]
    assert codes[:2] == [400] * 2 and codes[-2:] == [429] * 2
