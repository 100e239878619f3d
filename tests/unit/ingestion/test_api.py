"""The API in front of a producer that acknowledges everything, after encoding it as the real one
does.
"""

import base64
import gzip
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import orjson
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from slipstream.broker import codec
from slipstream.contracts.events import DeadLetter, Interaction
from slipstream.gate.rejections import Code
from slipstream.gate.settings import PrivacySettings
from tests.unit.ingestion.collector import AUTH, KEY, Acknowledging, collecting
from tests.unit.ingestion.payloads import CALLS, json_values, messages, track


@pytest.fixture(scope="module")
def producer() -> Acknowledging:
    return Acknowledging()


@pytest.fixture(scope="module")
def client(producer: Acknowledging) -> Iterator[TestClient]:
    with collecting(
        producer, max_batch_events=20, max_event_bytes=1_000, max_body_bytes=20_000
    ) as client:
        yield client


@pytest.fixture(autouse=True)
def start_afresh(producer: Acknowledging) -> None:
    producer.published.clear()
    producer.away = False


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
        ("missing_user", "shop", track(userId=None, messageId="m-2")),
        ("not_an_object", "shop", 7),
    ]
    assert all(letter.reason and letter.request_id for letter in letters)


def test_write_key_in_the_body_counts_and_does_not_reach_the_dead_letters(
    client: TestClient, producer: Acknowledging
) -> None:
    answer = client.post("/v1/track", json=track(userId=None, writeKey="s3cret"))
    assert (answer.status_code, answer.json()["rejected"]) == (200, 1)
    assert b"s3cret" not in codec.encode(producer.published[0].record)


@pytest.mark.parametrize("key", [None, "wrong", 7])
def test_wrong_write_key_is_refused(client: TestClient, producer: Acknowledging, key: Any) -> None:
    answer = client.post("/v1/track", json=track(writeKey=key))
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_write_key")
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert not producer.published


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
    assert [(o.topic.name, o.key) for o in producer.published] == [
        ("catalog.v1", "item:a/b"),
        ("catalog.v1", "user:ada"),
        ("catalog.v1", "item:a/b"),
    ]


@pytest.mark.parametrize("item_id", ["a\nb", "a\n", " ", "ü/?#"])
def test_item_of_any_id_can_be_deleted(
    client: TestClient, producer: Acknowledging, item_id: str
) -> None:
    assert client.delete(f"/v1/items/{quote(item_id, safe='')}", auth=AUTH).json()["accepted"] == 1
    assert producer.entries[0].entity_id == item_id


def test_user_is_erased(client: TestClient, producer: Acknowledging) -> None:
    assert client.delete("/v1/users/ada%40home", auth=AUTH).json()["accepted"] == 1
    (entry,) = producer.entries
    assert (entry.entity, entry.entity_id, entry.deleted) == ("user", "ada@home", True)


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
    assert KEY.encode() not in b"".join(codec.encode(o.record) for o in producer.published)


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
        (f"data={quote(orjson.dumps({'userId': 'ada', 'event': 'Mail Opened'}))}&writeKey={KEY}", 200, "accepted"),
        (f"data={as_base64({'type': 'page', 'userId': 'ada', 'writeKey': KEY})}", 200, "accepted"),
        (f"data={as_base64({'event': 'x'})}&writeKey={KEY}", 200, "rejected; code=missing_user; field=userId"),
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


def test_short_addresses_of_the_browser_library_are_the_same_calls(
    client: TestClient, producer: Acknowledging
) -> None:
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


CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def test_crawlers_are_rejected_and_not_kept(client: TestClient, producer: Acknowledging) -> None:
    browser = {"userAgent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
    batch = [track(), track(context=browser), track(context={"userAgent": CRAWLER})]
    answer = client.post(
        "/v1/batch", json={"batch": batch}, auth=AUTH, headers={"User-Agent": CRAWLER}
    ).json()
    assert [result.get("code") for result in answer["results"]] == ["bot", None, "bot"]
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


def test_pages_of_every_origin_are_let_in_unless_some_are_named(client: TestClient) -> None:
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    assert client.options("/v1/track", headers=asked).headers["access-control-allow-origin"] == "*"
    answer = client.post("/v1/track", json=track(), auth=AUTH, headers=asked)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    with collecting(Acknowledging(), cors_origins="") as closed_client:
        assert closed_client.options("/v1/track", headers=asked).status_code == 405
    with collecting(
        Acknowledging(), cors_origins="https://shop.example, https://other.example"
    ) as open_client:
        allowed = open_client.options(
            "/v1/track", headers={**asked, "Access-Control-Request-Headers": "authorization"}
        )
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (
            200,
            "https://shop.example",
        )
        for key in (KEY, "wrong"):  # a page can read why it was refused
            answer = open_client.post("/v1/track", json=track(writeKey=key), headers=asked)
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        strange = open_client.options(
            "/v1/track", headers={**asked, "Origin": "https://evil.example"}
        )
        assert strange.status_code == 400


def test_personal_fields_reach_no_topic() -> None:
    producer = Acknowledging()
    secret = "ada@example.org"
    fields = {
        "email": secret,
        "address": {"street": secret, "country": "NZ"},
        "ip": "203.0.113.77",
        "sku": "a",
    }
    batch = [
        track(properties=fields),
        {"type": "identify", "userId": "ada", "traits": fields},
        {"type": "group", "userId": "ada", "groupId": "g", "traits": fields},
        {
            "type": "page",
            "userId": "ada",
            "properties": fields,
            "context": {"ip": "203.0.113.77", "traits": fields},
        },
        {
            **track(properties=fields, userId=""),
            "context": {"ip": "203.0.113.77", "traits": fields},
        },
        track(properties=[fields]),
        {**track(properties=fields), "timestamp": "x", "extra": {"deep": [[fields]]}},
    ]
    privacy = PrivacySettings(
        hash_fields="email", drop_fields="address.street,phone", hash_key=SecretStr("pepper")
    )
    with collecting(producer, privacy) as client:
        answer = client.post("/v1/batch", json={"batch": batch}, auth=AUTH).json()
        assert (answer["accepted"], answer["rejected"]) == (4, 3)
        client.post(
            "/v1/users",
            json={"users": [{"user_id": "ada", **fields}, {"user_id": "", **fields}]},
            auth=AUTH,
        )
    kept = b"".join(codec.encode(outgoing.record) for outgoing in producer.published)
    assert secret.encode() not in kept and b"203.0.113.77" not in kept and b"203.0.113.0" in kept
    published = producer.interactions[0].properties
    assert len(published["email"]) == 64
    assert published == {
        "email": published["email"],
        "address": {"country": "NZ"},
        "ip": "203.0.113.0",
        "sku": "a",
    }
    assert {entry.attributes["email"] for entry in producer.entries} == {published["email"]}


def test_dead_letter_says_which_call_it_came_by(
    client: TestClient, producer: Acknowledging
) -> None:
    client.post("/v1/page", json={"messageId": "m", "context": {"ip": "203.0.113.77"}}, auth=AUTH)
    (letter,) = producer.letters
    assert letter.original == {"messageId": "m", "context": {"ip": "203.0.113.0"}, "type": "page"}


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
    assert set(operation["responses"]) == {"200", "400", "401", "413", "429", "503"}
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
