"""What is sent for a dead letter."""

from typing import Any

import pytest

from slipstream.contracts.events import DeadLetter
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


def message(**fields: Any) -> dict[str, Any]:
    return {"type": "track", "userId": "ada", "messageId": "m-1", "timestamp": RECEIVED, **fields}


def test_a_message_goes_again_as_it_is() -> None:
    original = message(event="view", properties={})
    way = replay_entry(letter(original), NOW)
    assert (way.path, way.entry) == (BATCH, original)


def test_an_unreadable_time_is_left_for_ingestion_to_judge() -> None:
    original = message(timestamp="yesterday", sentAt=5)
    way = replay_entry(letter(original), NOW)
    assert (way.path, way.entry) == (BATCH, original)


@pytest.mark.parametrize(
    ("age_h", "path"), [(1, BATCH), (22, BATCH), (24, IMPORT), (24 * 29, IMPORT)]
)
def test_what_is_old_goes_as_history(age_h: int, path: str) -> None:
    assert replay_entry(letter(message()), RECEIVED + age_h * HOUR).path == path


@pytest.mark.parametrize(
    ("original", "path", "entity"),
    [
        ({"item_id": "a", "available": "yes"}, ITEMS, "item:a"),
        ({"item_id": "a", "available": "yes", "type": "shirt"}, ITEMS, "item:a"),
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
        ({"attributes": {}}, "names no item and no user"),
        ({"item_id": "x" * 300, "deleted": True}, "delete it again"),
        ({"item_id": "a", "price": "5", "type": "item_patch"}, "patch it again"),
        ({"user_id": "a", "attributes": [], "type": "user_patch"}, "patch it again"),
    ],
)
def test_what_is_never_sent_says_why(original: Any, why: str) -> None:
    with pytest.raises(NotReplayableError, match=why):
        replay_entry(letter(original), NOW)


BY_PAGES = [
    message(event="view"),
    message(type="alias", previousId="victim", userId="mine"),
    message(type="identify", userId="victim", traits={"name": "x"}),
    {"item_id": "kettle", "attributes": {"price": 0}},
    {"user_id": "victim", "attributes": {"name": "x"}},
]


@pytest.mark.parametrize("original", BY_PAGES, ids=str)
def test_a_letter_of_a_page_is_not_sent_with_the_key_of_a_server(original: dict[str, Any]) -> None:
    assert replay_entry(letter(original), NOW).entry
    with pytest.raises(NotReplayableError, match="came with a browser's key"):
        replay_entry(letter(original, by_browser=True), NOW)


@pytest.mark.parametrize("original", [message(), '{"event_type":"view","user_id":"ada"}'])
def test_a_letter_of_features_is_not_sent(original: Any) -> None:
    with pytest.raises(NotReplayableError, match="ingestion had accepted it"):
        replay_entry(letter(original, source="features"), NOW)
