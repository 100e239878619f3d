"""What is sent for a dead letter."""

import json
from typing import Any

import pytest

from slipstream.contracts.events import CatalogRecord, DeadLetter, Interaction
from slipstream_cli.dead_letters.letters import Letter
from slipstream_cli.dead_letters.resend import (
    BATCH,
    IMPORT,
    ITEMS,
    USERS,
    NotReplayableError,
    replay_entry,
)

HOUR = 3_600_000
RECEIVED = 1_700_000_000_000
NOW = RECEIVED + HOUR


def letter(original: Any, source: str = "shop", place: str = "t:0:7", **fields: Any) -> Letter:
    record = {
        "source": source,
        "code": "missing_item",
        "reason": "…",
        "received_at": RECEIVED,
        "original": original,
        **fields,
    }
    return Letter(place, DeadLetter(**record))


def test_a_message_goes_again_under_its_id_and_at_its_time() -> None:
    original = {
        "type": "track",
        "event": "view",
        "userId": "ada",
        "messageId": "m-1",
        "timestamp": RECEIVED - 5,
        "properties": {},
    }
    way = replay_entry(letter(original), NOW)
    assert (way.path, way.entry) == (BATCH, original)


def test_without_an_id_it_has_one_of_its_letter_so_that_it_can_be_sent_twice() -> None:
    original = {"type": "page", "userId": "ada"}
    first, second, other = (
        replay_entry(letter(original, place=place), NOW).entry["messageId"]
        for place in ("t:0:7", "t:0:7", "t:0:8")
    )
    assert first == second != other
    assert original == {"type": "page", "userId": "ada"}


def test_without_a_time_it_happened_when_it_was_received() -> None:
    assert (
        replay_entry(letter({"type": "page", "userId": "ada"}), NOW).entry["timestamp"] == RECEIVED
    )


@pytest.mark.parametrize("field", ["timestamp", "originalTimestamp"])
def test_a_clock_that_was_off_is_corrected_by_when_it_was_sent_then_not_now(field: str) -> None:
    fast = RECEIVED + 600_000
    original = {
        "type": "track",
        "event": "view",
        "userId": "ada",
        "sentAt": fast,
        field: fast - 2_000,
    }
    entry = replay_entry(letter(original), NOW).entry
    assert entry["timestamp"] == RECEIVED - 2_000
    assert "sentAt" not in entry


def test_an_unreadable_time_is_left_for_ingestion_to_judge() -> None:
    way = replay_entry(
        letter({"type": "page", "userId": "ada", "timestamp": "yesterday", "sentAt": 5}), NOW
    )
    assert (way.path, way.entry["timestamp"], way.entry["sentAt"]) == (BATCH, "yesterday", 5)


@pytest.mark.parametrize(
    ("age_h", "path"), [(1, BATCH), (22, BATCH), (24, IMPORT), (24 * 29, IMPORT)]
)
def test_what_is_old_goes_as_history(age_h: int, path: str) -> None:
    assert (
        replay_entry(letter({"type": "page", "userId": "ada"}), RECEIVED + age_h * HOUR).path
        == path
    )


@pytest.mark.parametrize(
    ("original", "call"),
    [
        ({"event": "view"}, "track"),
        ({"traits": {}}, "identify"),
        ({"groupId": "g", "traits": {}}, "group"),
        ({"previousId": "a", "userId": "b"}, "alias"),
    ],
)
def test_the_call_is_told_by_its_shape_where_nothing_else_tells_it(
    original: dict[str, Any], call: str
) -> None:
    assert replay_entry(letter(original), NOW).entry["type"] == call


def test_a_write_key_is_not_sent_on() -> None:
    assert (
        "writeKey"
        not in replay_entry(letter({"type": "page", "userId": "ada", "writeKey": "old"}), NOW).entry
    )


@pytest.mark.parametrize(
    ("original", "path", "entity"),
    [
        ({"item_id": "a", "available": "yes"}, ITEMS, "item:a"),
        ({"user_id": "u", "attributes": []}, USERS, "user:u"),
    ],
)
def test_entries_of_the_catalogue_are_known_by_their_shape(
    original: dict[str, Any], path: str, entity: str
) -> None:
    way = replay_entry(letter(original), NOW)
    assert (way.path, way.entry, way.entity) == (path, original, entity)


@pytest.mark.parametrize(
    ("original", "why"),
    [
        ([1], "not a JSON object"),
        ('{"a":{"a":…', "nested too deeply"),
        (None, "not a JSON object"),
        ({"userId": "ada"}, "no field of the original shows which call"),
        ({"item_id": "x" * 300, "deleted": True}, "delete it again"),
        ({"item_id": "a", "price": "5", "type": "item_patch"}, "patch it again"),
        ({"user_id": "a", "attributes": [], "type": "user_patch"}, "patch it again"),
    ],
)
def test_what_can_not_be_sent_says_why(original: Any, why: str) -> None:
    with pytest.raises(NotReplayableError, match=why):
        replay_entry(letter(original), NOW)


BY_SERVERS_ONLY = [
    {"type": "alias", "previousId": "victim", "userId": "mine"},
    {"type": "identify", "userId": "victim", "traits": {"name": "x"}},
    {"previousId": "victim", "userId": "mine"},
    {"traits": {"name": "x"}, "userId": "victim"},
    {"item_id": "kettle", "attributes": {"price": 0}},
    {"user_id": "victim", "attributes": {"name": "x"}},
]


@pytest.mark.parametrize("original", BY_SERVERS_ONLY, ids=str)
def test_what_a_page_may_not_do_is_not_sent_with_the_key_of_a_server(
    original: dict[str, Any],
) -> None:
    assert replay_entry(letter(original), NOW).entry
    with pytest.raises(NotReplayableError, match="came with a browser's key"):
        replay_entry(letter(original, by_browser=True), NOW)


@pytest.mark.parametrize("call", ["track", ["alias"]])
def test_an_event_of_a_page_is_sent_again(call: Any) -> None:
    original = {"type": call, "event": "view", "userId": "ada"}
    assert replay_entry(letter(original, by_browser=True), NOW).path == BATCH


@pytest.mark.parametrize("ids", [{"anonymousId": "a1"}, {}])
def test_a_users_event_of_a_page_stays_apart_from_the_user(ids: dict[str, str]) -> None:
    original = {"type": "track", "event": "view", "userId": "ada", **ids}
    sent = replay_entry(letter(original, by_browser=True), NOW).entry
    assert "userId" not in sent
    assert sent["anonymousId"] == ids.get("anonymousId", "ada") + "~unproven"
    assert replay_entry(letter(original), NOW).entry["userId"] == "ada"


def test_a_link_of_a_page_that_features_left_out_is_not_sent_with_the_key_of_a_server() -> None:
    identity = CatalogRecord(
        entity="identity",
        entity_id="victim",
        attributes={"user_id": "mine"},
        timestamp=RECEIVED,
        by_browser=True,
    )
    with pytest.raises(NotReplayableError, match="came with a browser's key"):
        replay_entry(letter(identity.model_dump_json(), source="features"), NOW)


INTERACTION = Interaction(
    event_id="m-1:0",
    event_type="purchase",
    user_id="ada",
    anonymous_id="device",
    timestamp=RECEIVED - 48 * HOUR,
    received_at=RECEIVED,
    item_id="kettle",
    value=19.5,
    recommendation_id="slate",
    position=2,
    session_id="s",
    source="shop",
    properties={"currency": "NZD"},
)


def test_an_interaction_that_features_left_out_becomes_a_message_again() -> None:
    way = replay_entry(letter(INTERACTION.model_dump_json(), source="features"), NOW)
    assert way.path == IMPORT
    assert way.entry == {
        "type": "track",
        "event": "purchase",
        "messageId": "m-1:0:replayed",
        "userId": "ada",
        "anonymousId": "device",
        "timestamp": RECEIVED - 48 * HOUR,
        "properties": {
            "currency": "NZD",
            "item_id": "kettle",
            "value": 19.5,
            "recommendation_id": "slate",
            "position": 2,
            "session_id": "s",
        },
    }


def test_an_anonymous_interaction_stays_anonymous_and_a_long_id_stays_short_enough() -> None:
    record = INTERACTION.model_copy(update={"user_id": "device", "event_id": "é" * 128})
    entry = replay_entry(letter(record.model_dump_json(), source="features"), NOW).entry
    assert (entry["anonymousId"], "userId" in entry) == ("device", False)
    assert len(entry["messageId"].encode()) <= 248


def test_a_record_that_was_malformed_is_sent_as_far_as_it_goes() -> None:
    record = {
        "event_id": "m",
        "event_type": "view",
        "user_id": "ada",
        "timestamp": "late",
        "item_id": "a",
    }
    way = replay_entry(letter(json.dumps(record), source="features", code="malformed_record"), NOW)
    assert (way.path, way.entry["timestamp"], way.entry["properties"]) == (
        BATCH,
        "late",
        {"item_id": "a"},
    )


def test_catalogue_records_go_back_to_their_endpoints() -> None:
    item = CatalogRecord(
        entity="item", entity_id="a", attributes={"price": 1}, available=False, timestamp=RECEIVED
    )
    way = replay_entry(letter(item.model_dump_json(), source="features"), NOW)
    assert (way.path, way.entry) == (
        ITEMS,
        {"item_id": "a", "attributes": {"price": 1}, "available": False},
    )
    identity = CatalogRecord(
        entity="identity", entity_id="device", attributes={"user_id": "ada"}, timestamp=RECEIVED
    )
    entry = replay_entry(letter(identity.model_dump_json(), source="features"), NOW).entry
    assert (entry["type"], entry["previousId"], entry["userId"], entry["timestamp"]) == (
        "alias",
        "device",
        "ada",
        RECEIVED,
    )


@pytest.mark.parametrize(
    ("original", "why"),
    [
        (INTERACTION.model_dump_json()[:50], "only its beginning"),
        ("\x00\x01", "not JSON"),
        ("[]", "not an object"),
        ('{"recommendation_id":"r","user_id":"u","items":[]}', "not a client's event"),
        ('{"entity":"user","entity_id":"u","deleted":true,"timestamp":1}', "delete it again"),
        ('{"entity":"shop","entity_id":"u"}', "no entity 'shop'"),
        ('{"entity":"item_patch","entity_id":"a","attributes":{"price":5}}', "patch it again"),
        ('{"entity":"user_patch","entity_id":"a","attributes":{"plan":5}}', "patch it again"),
    ],
)
def test_records_without_a_way_back_say_why(original: str, why: str) -> None:
    with pytest.raises(NotReplayableError, match=why):
        replay_entry(letter(original, source="features"), NOW)
