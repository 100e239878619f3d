"""Records of what pages say of people are marked, whichever way they come."""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from slipstream.contracts.events import DeadLetter
from tests.unit.ingestion.collector import AUTH, Acknowledging, collecting

PAGE = ("in-the-page", "")
IDENTIFY = {"userId": "u", "anonymousId": "a", "traits": {"plan": "free"}}
ALIAS = {"userId": "u", "previousId": "a"}


@pytest.fixture(scope="module")
def client(producer: Acknowledging) -> Iterator[TestClient]:
    pages = {"browser_keys": SecretStr(f"page:{PAGE[0]}")}
    with collecting(producer, **pages, cors_origins="https://shop.example") as client:
        client.headers["Origin"] = "https://shop.example"
        yield client


def pixel(call: str, message: dict[str, Any]) -> str:
    return "/v1/pixel.gif?data=" + json.dumps({**message, "type": call})


@pytest.mark.parametrize(("auth", "by_browser"), [(PAGE, True), (AUTH, False)])
@pytest.mark.parametrize(("call", "message"), [("identify", IDENTIFY), ("alias", ALIAS)])
def test_what_a_page_says_of_people_is_marked(
    client: TestClient,
    producer: Acknowledging,
    call: str,
    message: dict[str, Any],
    auth: tuple[str, str],
    by_browser: bool,
) -> None:
    producer.published.clear()
    client.post(f"/v1/{call}", json=message, auth=auth)
    client.post("/v1/batch", json={"batch": [{**message, "type": call}]}, auth=auth)
    client.get(pixel(call, message), auth=auth)
    records = producer.entries
    assert len(records) == 3 * (1 + ("traits" in message))
    assert all(record.by_browser is by_browser for record in records)


@pytest.mark.parametrize(("auth", "by_browser"), [(PAGE, True), (AUTH, False)])
def test_a_letter_of_a_page_is_marked(
    client: TestClient, producer: Acknowledging, auth: tuple[str, str], by_browser: bool
) -> None:
    producer.published.clear()
    client.post("/v1/alias", json={"userId": "u"}, auth=auth)
    (letter,) = [cast(DeadLetter, outgoing.record) for outgoing in producer.published]
    assert letter.by_browser is by_browser


def test_a_picture_is_of_the_page_that_shows_it(client: TestClient) -> None:
    """Browsers send no Origin with a picture."""

    def status(**headers: str) -> int:
        request = client.build_request(
            "GET", pixel("track", {"userId": "u", "event": "x"}) + f"&writeKey={PAGE[0]}"
        )
        del request.headers["Origin"]
        request.headers.update(headers)
        return client.send(request).status_code

    assert status(Referer="https://shop.example/cart?id=1") == 200
    assert status(Referer="https://shop.example") == 200
    assert status(Referer="https://shop.example.evil.example/") == 403
    assert status(Referer="https://evil.example/https://shop.example/") == 403
    assert status(Referer="https://[") == 403
    assert status() == status(Origin="null") == 403
