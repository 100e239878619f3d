"""What pages send in a user's name, with the token of a server and without."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from slipstream.chassis.access.page_tokens import signed_user
from tests.unit.ingestion.collector import AUTH, KEY, Acknowledging, collecting

PAGE = ("in-the-page", "")
VIEW = {"event": "Product Viewed", "properties": {"product_id": "kettle"}}


@pytest.fixture(scope="module")
def client(producer: Acknowledging) -> Iterator[TestClient]:
    with collecting(producer, browser_keys=SecretStr(f"page:{PAGE[0]}")) as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_published(producer: Acknowledging) -> None:
    producer.published.clear()


def verdict(client: TestClient, call: str, auth: tuple[str, str], **message: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/{call}", json=message, auth=auth)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["results"]
    return dict(found)


def token(user: str = "ada", visitor: str = "a1") -> dict[str, str]:
    return {"userToken": signed_user(KEY, user, visitor, 600)}


@pytest.mark.parametrize(
    ("ids", "visitor"),
    [
        ({"userId": "ada", "anonymousId": "a1"}, "a1~unproven"),
        ({"userId": "ada"}, "ada~unproven"),
        ({"userId": "ada", "anonymousId": "ada"}, "ada~unproven"),
    ],
)
def test_a_pages_event_in_a_users_name_is_kept_apart_and_the_verdict_tells(
    client: TestClient, producer: Acknowledging, ids: dict[str, str], visitor: str
) -> None:
    told = verdict(client, "track", PAGE, **VIEW, **ids)
    assert (told["status"], told["unproven"]) == ("accepted", "no_token")
    (event,) = producer.interactions
    assert (event.user_id, event.anonymous_id) == (visitor, ids.get("anonymousId"))


def test_others_count_as_before(client: TestClient, producer: Acknowledging) -> None:
    for auth, ids in (
        (AUTH, {"userId": "ada", "anonymousId": "a1"}),
        (PAGE, {"anonymousId": "a1"}),
    ):
        assert "unproven" not in verdict(client, "track", auth, **VIEW, **ids)
    proven = verdict(client, "track", PAGE, **VIEW, userId="ada", anonymousId="a1", context=token())
    assert "unproven" not in proven
    assert [event.user_id for event in producer.interactions] == ["ada", "a1", "ada"]


@pytest.mark.parametrize(
    ("call", "ids"),
    [
        ("identify", {"userId": "ada", "anonymousId": "a1"}),
        ("alias", {"userId": "ada", "previousId": "a1"}),
        ("alias", {"userId": "ada", "previousId": "a1", "anonymousId": "other"}),
    ],
)
@pytest.mark.parametrize(
    ("auth", "context", "proven", "doubt"),
    [
        (PAGE, dict, False, "no_token"),
        (PAGE, partial(token, visitor="a2"), False, "wrong_anonymous_id"),
        (PAGE, partial(token, user="eve"), False, "wrong_user"),
        (PAGE, token, True, None),
        (AUTH, dict, False, None),
    ],
)
def test_a_link_is_proven_by_a_token_or_by_a_servers_key(
    client: TestClient,
    producer: Acknowledging,
    call: str,
    ids: dict[str, str],
    auth: tuple[str, str],
    context: Callable[[], dict[str, str]],
    proven: bool,
    doubt: str | None,
) -> None:
    # Made here: a token ends ten minutes after it, and tests are collected long before they run.
    assert verdict(client, call, auth, **ids, context=context()).get("unproven") == doubt
    (link,) = producer.entries
    assert (link.entity_id, link.by_browser, link.proven) == ("a1", auth == PAGE, proven)


def test_a_batchs_context_may_hold_the_token(client: TestClient, producer: Acknowledging) -> None:
    call = {"type": "identify", "userId": "ada", "anonymousId": "a1"}
    body = {"batch": [call, {**call, "context": {}}], "context": token()}
    results = client.post("/v1/batch", json=body, auth=PAGE).json()["results"]
    assert [result.get("unproven") for result in results] == [None, "no_token"]


def test_no_token_is_kept_in_a_letter(client: TestClient, producer: Acknowledging) -> None:
    context = {**token(), "page": "x"}
    told = verdict(client, "track", PAGE, userId="ada", anonymousId="a1", context=context)
    assert told["code"] == "missing_name"
    (letter,) = producer.published
    assert letter.record is not None
    assert "userToken" not in letter.record.model_dump_json()
    assert letter.record.original["context"] == {"page": "x"}  # type: ignore[attr-defined]


def test_an_id_that_has_no_room_for_a_visitor_apart_is_refused(client: TestClient) -> None:
    long = verdict(client, "track", PAGE, **VIEW, userId="ada", anonymousId="x" * 248)
    assert (long["code"], long["field"]) == ("invalid_id", "anonymousId")
    assert verdict(client, "track", PAGE, **VIEW, anonymousId="x" * 256)["status"] == "accepted"
