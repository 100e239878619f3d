"""Calls and the catalogue over HTTP, in front of a producer that acknowledges everything."""

import gzip
from typing import Any, cast
from urllib.parse import quote

import orjson
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingestion.fields import Code
from slipstream.broker.records import encode
from slipstream.contracts.events import DeadLetter, Interaction
from tests.unit.ingestion.collector import AUTH, KEY, Acknowledging, collecting
from tests.unit.ingestion.payloads import CALLS, json_values, messages, track


def test_track_answers_with_a_verdict_and_publishes_under_the_visitor(
    client: TestClient, producer: Acknowledging
) -> None:
    answer = client.post("/v1/track", json=track(), auth=AUTH, headers={"X-Request-Id": "rid-1"})
    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 1, "duplicates": 0, "rejected": 0,
        "results": [{"index": 0, "message_id": "m-1", "status": "accepted"}],
    }  # fmt: skip
    (outgoing,) = producer.published
    assert (outgoing.topic.name, outgoing.key, outgoing.request_id) == (
        "interactions.v1",
        "ada",
        "rid-1",
    )
    assert cast(Interaction, outgoing.record).source == "shop"


def test_bad_event_is_rejected_alone(client: TestClient, producer: Acknowledging) -> None:
    answer = client.post(
        "/v1/batch", json={"batch": [track(), track(userId=None, messageId="m-2"), 7]}, auth=AUTH
    ).json()
    assert (answer["accepted"], answer["rejected"]) == (1, 2)
    assert [
        (r["index"], r["message_id"], r["status"], r.get("code"), r.get("field"))
        for r in answer["results"]
    ] == [
        (0, "m-1", "accepted", None, None),
        (1, "m-2", "rejected", "missing_user", "userId"),
        (2, None, "rejected", "not_an_object", None),
    ]
    letters = [
        cast(DeadLetter, o.record) for o in producer.published if o.topic.name == "dead-letters.v1"
    ]
    assert [(letter.code, letter.source, letter.original) for letter in letters] == [
        (
            "missing_user",
            "shop",
            track(userId=None, messageId="m-2", timestamp=letters[0].received_at),
        ),
        ("not_an_object", "shop", 7),
    ]
    assert all(letter.reason and letter.request_id for letter in letters)


def test_write_key_in_the_body_counts_and_does_not_reach_the_dead_letters(
    client: TestClient, producer: Acknowledging
) -> None:
    answer = client.post("/v1/track", json=track(userId=None, writeKey="s3cret"))
    assert (answer.status_code, answer.json()["rejected"]) == (200, 1)
    assert b"s3cret" not in encode(producer.published[0].record)


@pytest.mark.parametrize("key", [None, "wrong", 7])
def test_wrong_write_key_is_refused(client: TestClient, producer: Acknowledging, key: Any) -> None:
    answer = client.post("/v1/track", json=track(writeKey=key))
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_write_key")
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert not producer.published


@pytest.mark.parametrize("header", [b"Basic \x80", b"Basic =", b"Basic gA==", b"Bearer x", b"\xff"])
def test_authorization_that_can_t_be_read_is_refused(client: TestClient, header: bytes) -> None:
    answer = client.post("/v1/track", json=track(), headers=[(b"Authorization", header)])  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_write_key")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/track", b"{", 400, "invalid_json"),
        ("/v1/track", b"", 400, "invalid_json"),
        ("/v1/track", b"\xff", 400, "invalid_json"),
        ("/v1/track", b"[]", 400, "invalid_body"),
        ("/v1/batch", b"{}", 400, "invalid_body"),
        ("/v1/batch", b'{"batch": {}}', 400, "invalid_body"),
        ("/v1/items", b'{"items": 1}', 400, "invalid_body"),
        ("/v1/batch", b'{"batch": [%b]}' % b",".join([b"1"] * 21), 413, "too_large"),
        ("/v1/batch", b'{"batch": ["%b"]}' % (b"x" * 20_000), 413, "too_large"),
    ],
)
def test_body_that_can_t_be_read_is_a_problem(
    client: TestClient, path: str, body: bytes, status: int, code: str
) -> None:
    answer = client.post(path, content=body, auth=AUTH)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_event_above_the_limit_is_rejected_alone(client: TestClient) -> None:
    answer = client.post(
        "/v1/batch", json={"batch": [track(), track(extra="x" * 1_000)]}, auth=AUTH
    ).json()
    assert [r.get("code") for r in answer["results"]] == [None, "event_too_large"]


def test_broker_away_is_503_and_claims_nothing(client: TestClient, producer: Acknowledging) -> None:
    producer.away = True
    answer = client.post("/v1/batch", json={"batch": [track(), 7]}, auth=AUTH)
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "accepted" not in answer.json()


def test_items_and_users_are_upserted_and_items_deleted(
    client: TestClient, producer: Acknowledging
) -> None:
    assert (
        client.post(
            "/v1/items", json={"items": [{"item_id": "a/b", "title": "A"}]}, auth=AUTH
        ).json()["accepted"]
        == 1
    )
    assert (
        client.post("/v1/users", json={"users": [{"user_id": "ada"}]}, auth=AUTH).json()["accepted"]
        == 1
    )
    assert client.delete("/v1/items/a%2Fb", auth=AUTH).json()["accepted"] == 1
    patch = {"item_id": "a/b", "price": 5}
    assert client.patch("/v1/items/a%2Fb", json={"price": 5}, auth=AUTH).json()["accepted"] == 1
    assert client.patch("/v1/items", json={"items": [patch]}, auth=AUTH).json()["accepted"] == 1
    user = {"user_id": "a/b", "plan": "pro"}
    assert client.patch("/v1/users/a%2Fb", json={"plan": "pro"}, auth=AUTH).json()["accepted"] == 1
    assert client.patch("/v1/users", json={"users": [user]}, auth=AUTH).json()["accepted"] == 1
    *_, first, second, one, other = producer.published
    assert first.record.attributes == second.record.attributes == {"price": 5}
    assert one.record.attributes == other.record.attributes == {"plan": "pro"}
    assert (first.key, one.key) == (second.key, other.key)
    assert [(o.topic.name, o.key) for o in producer.published] == [
        ("catalog.v1", "item:a/b"),
        ("people.v1", "user:ada"),
        ("catalog.v1", "item:a/b"),
        ("catalog.v1", first.key),
        ("catalog.v1", first.key),
        ("people.v1", one.key),
        ("people.v1", one.key),
    ]


@pytest.mark.parametrize("item_id", ["a\nb", "a\n", " ", "ü/?#"])
def test_item_of_any_id_can_be_deleted(
    client: TestClient, producer: Acknowledging, item_id: str
) -> None:
    assert client.delete(f"/v1/items/{quote(item_id, safe='')}", auth=AUTH).json()["accepted"] == 1
    assert producer.entries[0].entity_id == item_id


def test_user_is_erased(client: TestClient, producer: Acknowledging) -> None:
    client.post("/v1/track", json=track(), auth=AUTH)
    answer = client.delete("/v1/users/ada%40home", auth=AUTH).json()
    assert (answer["accepted"], len(answer["erasure_id"])) == (1, 32)
    (entry,) = producer.entries
    assert (entry.entity, entry.entity_id, entry.deleted) == ("user", "ada@home", True)
    assert entry.cut == {"interactions.v1": {"t:0": 1}}
    assert producer.tombstones == ["user:ada@home"]
    assert producer.published[-1].key == f"erasure:{answer['erasure_id']}"
    producer.away = True
    refused = client.delete("/v1/users/ada%40home", auth=AUTH)
    assert (refused.status_code, refused.json()["code"]) == (503, "broker_unavailable")


def test_import_takes_history_and_marks_it(client: TestClient, producer: Acknowledging) -> None:
    old = track(timestamp="2019-05-01T00:00:00Z")
    refused = client.post("/v1/batch", json={"batch": [old]}, auth=AUTH).json()["results"][0]
    assert (refused["code"], refused["field"]) == ("timestamp_too_old", "timestamp")
    assert "/v1/import" in refused["reason"]
    producer.published.clear()
    assert (
        client.post("/v1/import", json={"batch": [old, track()]}, auth=AUTH).json()["accepted"] == 2
    )
    assert [i.imported for i in producer.interactions] == [True, True]


def test_packed_body_is_unpacked_within_the_limit(
    client: TestClient, producer: Acknowledging
) -> None:
    def post(content: bytes, encoding: str = "gzip") -> Any:
        return client.post(
            "/v1/track", content=content, auth=AUTH, headers={"Content-Encoding": encoding}
        )

    assert post(gzip.compress(orjson.dumps(track()))).json()["accepted"] == 1
    assert post(orjson.dumps(track()), "identity").json()["accepted"] == 1
    assert (post(gzip.compress(b" " * 1_000_000)).status_code, len(producer.published)) == (413, 2)
    for broken in (gzip.compress(orjson.dumps(track()))[:-9], b"{}", b""):
        assert (post(broken).status_code, post(broken).json()["code"]) == (
            400,
            "unsupported_encoding",
        )
    assert post(b"{}", "br").json()["code"] == "unsupported_encoding"


def test_beacon_is_plain_text_with_the_key_in_the_body(
    client: TestClient, producer: Acknowledging
) -> None:
    body = orjson.dumps(
        {"batch": [track(), track(messageId="m-2", userId="", writeKey=KEY)], "writeKey": KEY}
    )
    answer = client.post(
        "/v1/batch", content=body, headers={"Content-Type": "text/plain;charset=UTF-8"}
    )
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 1)
    assert KEY.encode() not in b"".join(encode(o.record) for o in producer.published)


def acknowledged_records(client: TestClient) -> float:
    lines = client.get("/metrics").text.splitlines()
    (line,) = [each for each in lines if each.startswith("slipstream_ingestion_records_total ")]
    return float(line.split()[1])


def test_short_addresses_of_the_browser_library_are_the_same_calls(
    client: TestClient, producer: Acknowledging
) -> None:
    before = acknowledged_records(client)
    for path in ("t", "p", "s", "i", "g", "a"):
        body = {
            "userId": "ada",
            "event": "x",
            "groupId": "g",
            "previousId": "old",
            "traits": {"a": 1},
            "writeKey": KEY,
        }
        assert client.post(f"/v1/{path}", json=body).json()["accepted"] == 1
    assert [i.event_type for i in producer.interactions] == ["x", "page", "screen", "group"]
    assert [e.entity for e in producer.entries] == ["user", "identity"]
    assert acknowledged_records(client) == before + 6


def test_an_unknown_field_beside_a_list_of_entries_is_refused(
    client: TestClient, producer: Acknowledging
) -> None:
    body = {"items": [{"item_id": "a", "colour": "red"}], "itmes": []}
    refused = client.post("/v1/items", json=body, auth=AUTH)
    (error,) = refused.json()["errors"]
    assert (refused.status_code, error["field"], error["code"]) == (
        422,
        "body.itmes",
        "unknown_name",
    )
    assert error["reason"] == "unknown field; did you mean items?"
    assert not producer.published
    del body["itmes"]
    assert client.post("/v1/items", json={**body, "writeKey": KEY}).json()["accepted"] == 1


CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def test_crawlers_are_rejected_and_not_kept(client: TestClient, producer: Acknowledging) -> None:
    browser = {"userAgent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
    batch = [track(), track(context=browser), track(context={"userAgent": CRAWLER})]
    answer = client.post(
        "/v1/batch", json={"batch": batch}, auth=AUTH, headers={"User-Agent": CRAWLER}
    ).json()
    assert [result.get("code") for result in answer["results"]] == ["bot", None, "bot"]
    by_header, _, by_context = answer["results"]
    assert (by_header["field"], by_context["field"]) == ("User-Agent", "context.userAgent")
    assert "has 'bot' in it" in by_header["reason"]
    assert "SLIPSTREAM_INGESTION__BOT_FILTER=false" in by_header["reason"]
    assert [outgoing.topic.name for outgoing in producer.published] == ["interactions.v1"]
    assert (
        'slipstream_ingestion_events_total{source="shop",verdict="bot"}'
        in client.get("/metrics").text
    )


def test_crawlers_are_taken_where_the_filter_is_off() -> None:
    producer = Acknowledging()
    with collecting(producer, bot_filter=False) as client:
        assert (
            client.post(
                "/v1/track", json=track(), auth=AUTH, headers={"User-Agent": CRAWLER}
            ).json()["accepted"]
            == 1
        )


def test_verdicts_are_counted_by_source(client: TestClient) -> None:
    client.post("/v1/batch", json={"batch": [7]}, auth=AUTH)
    assert (
        'slipstream_ingestion_events_total{source="shop",verdict="not_an_object"}'
        in client.get("/metrics").text
    )


def test_openapi_describes_bodies_and_verdicts(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/batch"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["batch"]["items"]["properties"]["messageId"]
    assert set(operation["responses"]) == {"200", "400", "401", "403", "413", "429", "503"}
    assert "$defs" not in str(document)
    assert document["components"]["schemas"]["Verdicts"]


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
