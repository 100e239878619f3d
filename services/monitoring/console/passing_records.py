"""Records as a screen shows them while they pass: their place, and what they can be chosen by."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from slipstream.broker.tail import TailRecord
from slipstream.contracts.topics import (
    ACCESS_KEY_USES,
    ACCESS_KEYS,
    ALERTS,
    CATALOG,
    DEAD_LETTERS,
    ERASED_VISITORS,
    EXPERIMENTS,
    FEATURE_UPDATES,
    INTERACTIONS,
    MODEL_EVENTS,
    PEOPLE,
    PLACEMENTS,
    RECOMMENDATIONS,
    TOPICS,
)
from slipstream.contracts.vocabulary import SHOWN

# Topics that can be watched. Records of keys hold their digests, which `admin` alone may see.
WATCHED: Final = {
    topic.name: topic for topic in TOPICS if topic not in (ACCESS_KEYS, ACCESS_KEY_USES)
}
# Bytes of the largest record that is shown whole.
MOST_BYTES: Final = 131_072
MALFORMED: Final = "malformed"
# The kind of a topic's records, where they have one kind.
_KINDS: Final = {
    DEAD_LETTERS.name: "dead_letter",
    FEATURE_UPDATES.name: "feature_update",
    MODEL_EVENTS.name: "model_event",
    ALERTS.name: "alert",
    PLACEMENTS.name: "placement",
    EXPERIMENTS.name: "experiment",
    ERASED_VISITORS.name: "erased_visitors",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What records must have to be shown; None for anything."""

    topic: str | None = None
    kind: str | None = None
    visitor: str | None = None
    item: str | None = None
    placement: str | None = None
    code: str | None = None

    def takes(self, record: "PassingRecord") -> bool:
        """Whether a record is of this choice."""
        return (
            self.topic in (None, record.topic)
            and self.kind in (None, record.kind)
            and self.visitor in (None, record.visitor)
            and (self.item is None or self.item in record.items)
            and self.placement in (None, record.placement)
            and self.code in (None, record.code)
        )


class PassingRecord(NamedTuple):
    """A record that passes. `items` are those that it is about; a slate has several."""

    topic: str
    partition: int
    offset: int
    at: int
    request_id: str
    kind: str
    visitor: str | None
    items: tuple[str, ...]
    placement: str | None
    code: str | None
    raw: bytes

    def to_json(self) -> bytes:
        """The record as JSON, with its value as it stands on the topic. `item` is null where there
        are several, and `value` where it has more than `MOST_BYTES` or is no JSON.
        """
        is_whole = len(self.raw) <= MOST_BYTES and self.kind != MALFORMED
        return orjson.dumps(
            {
                "topic": self.topic,
                "partition": self.partition,
                "offset": self.offset,
                "at": self.at,
                "request_id": self.request_id,
                "kind": self.kind,
                "visitor": self.visitor,
                "item": self.items[0] if len(self.items) == 1 else None,
                "placement": self.placement,
                "code": self.code,
                "bytes": len(self.raw),
                "value": orjson.Fragment(self.raw) if is_whole else None,
            }
        )


def passing(record: TailRecord) -> PassingRecord:
    """What a record of a topic is shown as. A tombstone is null."""
    raw = record.value if record.value is not None else b"null"
    topic = record.topic.name
    place = (topic, record.partition, record.offset, record.at, record.request_id)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return PassingRecord(*place, MALFORMED, None, (), None, None, raw)
    if not isinstance(value, dict):
        return PassingRecord(*place, "tombstone", None, (), None, None, raw)
    about = _about(topic, value)
    return PassingRecord(
        *place,
        about.pop("kind"),
        _text(about.get("visitor")),
        tuple(filter(None, map(_text, about.get("items", ())))),
        _text(about.get("placement")),
        _text(about.get("code")),
        raw,
    )


def _about(topic: str, value: dict[str, Any]) -> dict[str, Any]:
    if topic == INTERACTIONS.name:
        return {
            "kind": str(value.get("event_type")),
            "visitor": value.get("user_id"),
            "items": [value.get("item_id")],
        }
    if topic == RECOMMENDATIONS.name:
        purpose, items = value.get("purpose", SHOWN), value.get("items")
        listed = items if isinstance(items, list) else []
        return {
            "kind": "slate" if purpose == SHOWN else f"{purpose}_slate",
            "visitor": value.get("user_id"),
            "items": [it.get("item_id") for it in listed if isinstance(it, dict)],
            "placement": value.get("placement") or None,
        }
    if topic in (CATALOG.name, PEOPLE.name):
        is_item = topic == CATALOG.name
        who = value.get("entity_id")
        return {
            "kind": str(value.get("entity")),
            "visitor": None if is_item else who,
            "items": [who] if is_item else [],
        }
    found: dict[str, Any] = {"kind": _KINDS[topic]}
    if topic == DEAD_LETTERS.name:
        original = value.get("original")
        named = original if isinstance(original, dict) else {}
        properties = named.get("properties")
        of_item = properties if isinstance(properties, dict) else {}
        found |= {
            "code": value.get("code"),
            "visitor": named.get("user_id") or named.get("userId") or named.get("anonymousId"),
            "items": [named.get("item_id") or of_item.get("product_id")],
        }
    elif topic == FEATURE_UPDATES.name:
        is_visitor = value.get("view") == "visitor"
        found["visitor" if is_visitor else "items"] = (
            value.get("entity_id") if is_visitor else [value.get("entity_id")]
        )
    elif topic == PLACEMENTS.name:
        found["placement"] = value.get("name")
    elif topic == ALERTS.name:
        found["code"] = value.get("rule")
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
