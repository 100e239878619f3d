"""From a dead letter back to what a client would send, or the reason why there is no way back.
Pure.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from slipstream.contracts.events import DeadLetter
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.vocabulary import MAX_ID_BYTES, MERGED_INTO
from slipstream.ingress.fields import as_millis
from slipstream.ingress.rejections import RejectionError
from slipstream_cli.dead_letters.letters import Letter

BATCH, IMPORT, ITEMS, USERS = "/v1/batch", "/v1/import", "/v1/items", "/v1/users"
# What the list is called in the body of each endpoint.
LIST_NAME = {BATCH: "batch", IMPORT: "batch", ITEMS: "items", USERS: "users"}
# Older than this goes as history: ingestion takes 24 h as live, and sending takes time, too.
LIVE_MS = DAY_MS - 3_600_000
# What tells the call of a message that came without a `type`, by a field that only this call has.
TELLTALE = {"event": "track", "previousId": "alias", "groupId": "group", "traits": "identify"}
FEATURES = "features"
# Fields of an interaction that a message has among its properties.
OWN_FIELDS = ("item_id", "value", "recommendation_id", "position", "session_id")


@dataclass(frozen=True, slots=True)
class Resend:
    """An entry of a body to be posted to `path`. `entity` is set where only the newest of several
    may be sent.
    """

    path: str
    entry: dict[str, Any]
    entity: str = ""


class NoWayBackError(Exception):
    """The original of a letter can't be sent; the text says why."""


def resend(letter: Letter, now_ms: int) -> Resend:
    """What to send for this letter. Raises `NoWayBackError`."""
    record = letter.record
    original = record.original
    if record.source == FEATURES:
        return _from_record(_parsed(original), letter, now_ms)
    if not isinstance(original, dict):
        raise NoWayBackError(
            "the original is no JSON object, or was too deeply nested to be kept as one"
        )
    if not original.get(
        "type"
    ):  # ingestion writes it into messages; an entry of the catalogue has none
        for entity in ("item", "user"):
            if f"{entity}_id" in original:
                return _catalog_entry(entity, original)
    return _message(dict(original), letter, now_ms)


def _catalog_entry(entity: str, original: dict[str, Any]) -> Resend:
    if original.get("deleted") is True:
        raise NoWayBackError("a deletion is not repeated from a letter: delete it again")
    # An entry counts from the moment it is sent: of several, an older one must not come last.
    return Resend(
        ITEMS if entity == "item" else USERS, original, f"{entity}:{original.get(f'{entity}_id')}"
    )


def _message(message: dict[str, Any], letter: Letter, now_ms: int) -> Resend:
    if not message.get("type"):
        message["type"] = next((call for field, call in TELLTALE.items() if field in message), None)
        if message["type"] is None:
            raise NoWayBackError("nothing in the original tells which call it was")
    if not message.get("messageId"):
        message["messageId"] = f"letter-{_digest(letter.id)}"
    message.pop("writeKey", None)
    happened = _settle_time(message, letter.record)
    return Resend(
        IMPORT if happened is not None and happened < now_ms - LIVE_MS else BATCH, message
    )


def _settle_time(message: dict[str, Any], record: DeadLetter) -> int | None:
    """Write down when it happened, by our clock: what a client leaves to the moment of receipt, and
    what `sentAt` corrects, would otherwise move to the moment of the replay. None, and the message
    as it was, where its times can't be read.
    """
    field = "timestamp" if message.get("timestamp") is not None else "originalTimestamp"
    try:
        given = message.get(field)
        happened = record.received_at if given is None else as_millis(given, field)
        if given is not None and (sent := message.get("sentAt")) is not None:
            happened += record.received_at - as_millis(sent, "sentAt")
    except RejectionError:
        return None
    message.pop("sentAt", None)
    message["timestamp"] = happened
    return happened


def _parsed(original: Any) -> dict[str, Any]:
    """A record that features left out; its letter holds the text, of a long one only the beginning."""
    try:
        record = orjson.loads(original) if isinstance(original, str) else original
    except orjson.JSONDecodeError as error:
        raise NoWayBackError("the record is not JSON, or only its beginning was kept") from error
    if not isinstance(record, dict):
        raise NoWayBackError("the record is not an object")
    return record


def _from_record(record: dict[str, Any], letter: Letter, now_ms: int) -> Resend:
    if "entity" in record and "entity_id" in record:
        return _from_catalog_record(record, letter, now_ms)
    if not record.get("event_type") or not record.get("user_id"):
        raise NoWayBackError("the record has no event_type and user_id: it is not a client's event")
    visitor, anonymous = record["user_id"], record.get("anonymous_id")
    own = {name: record[name] for name in OWN_FIELDS if record.get(name) is not None}
    properties = record.get("properties")
    message = {
        "type": "track",
        "event": record["event_type"],
        "messageId": _replayed_id(str(record.get("event_id") or letter.id)),
        "timestamp": record.get("timestamp"),
        "properties": {**(properties if isinstance(properties, dict) else {}), **own},
    }
    if anonymous is not None:
        message["anonymousId"] = anonymous
    if visitor != anonymous:
        message["userId"] = visitor
    return _message(message, letter, now_ms)


def _from_catalog_record(record: dict[str, Any], letter: Letter, now_ms: int) -> Resend:
    entity, entity_id, attributes = record["entity"], record["entity_id"], record.get("attributes")
    if entity == "identity" and isinstance(attributes, dict):
        message = {"type": "alias", "previousId": entity_id, "userId": attributes.get(MERGED_INTO)}
        return _message({**message, "timestamp": record.get("timestamp")}, letter, now_ms)
    if entity not in ("item", "user"):
        raise NoWayBackError(f"there is no entity {entity!r}")
    entry = {f"{entity}_id": entity_id, "attributes": attributes or {}}
    if record.get("available") is not None:
        entry["available"] = record["available"]
    return _catalog_entry(entity, entry | ({"deleted": True} if record.get("deleted") else {}))


def _replayed_id(event_id: str) -> str:
    """Another id than the event came with, since ingestion accepted that one and would call this a
    duplicate; always the same.
    """
    name = f"{event_id}:replayed"
    return name if len(name.encode()) <= MAX_ID_BYTES - 8 else f"replayed-{_digest(event_id)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
