"""Personal fields of every call and entry, on topics and in dead letters."""

from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.ingestion.settings import PrivacySettings
from slipstream.broker.records import encode
from tests.unit.ingestion.collector import AUTH, KEY, Acknowledging, collecting
from tests.unit.ingestion.payloads import track


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
    kept = b"".join(encode(outgoing.record) for outgoing in producer.published)
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


def test_no_write_key_and_no_address_reaches_a_topic_without_rules() -> None:
    producer = Acknowledging()
    fields = {"context": {"ip": "203.0.113.77"}, "seen": [{"writeKey": KEY}], "writeKey": KEY}
    calls = [
        track(properties={"sku": "a", **fields}),
        track(properties={"products": [{"sku": "a", **fields}]}),
        {"type": "page", "userId": "ada", "name": fields, "properties": fields},
        {"type": "group", "userId": "ada", "groupId": "g", "traits": fields},
        {"type": "identify", "userId": "ada", "traits": fields},
        track(properties={"products": [fields]}),
    ]
    with collecting(producer) as client:
        batch = [{**call, "writeKey": KEY} for call in calls]
        answer = client.post("/v1/batch", json={"batch": batch}, auth=AUTH).json()
        assert (answer["accepted"], answer["rejected"]) == (5, 1)
        client.post(
            "/v1/items", json={"items": [{"item_id": "a", "attributes": fields}]}, auth=AUTH
        )
        client.post("/v1/users", json={"users": [{"user_id": "ada", **fields}]}, auth=AUTH)
    published = [encode(outgoing.record) for outgoing in producer.published]
    assert len(published) == 8
    assert not any(KEY.encode() in record or b"writeKey" in record for record in published)
    whole = [entry.entity for entry in producer.entries if "203.0.113.77" in str(entry.attributes)]
    assert whole == ["item"], "an item belongs to no person"
    assert sum(b"203.0.113.77" in record for record in published) == 1


def test_dead_letter_says_which_call_it_came_by(
    client: TestClient, producer: Acknowledging
) -> None:
    client.post("/v1/page", json={"messageId": "m", "context": {"ip": "203.0.113.77"}}, auth=AUTH)
    (letter,) = producer.letters
    assert letter.original == {
        "messageId": "m",
        "context": {"ip": "203.0.113.0"},
        "type": "page",
        "timestamp": letter.received_at,
    }
