"""The rules for clients' data, as one table of cases.

A case is a row of columns, which ingestion gets as the track call or the catalogue entry with the
same meaning.
"""

from dataclasses import dataclass
from typing import Any, Final

import pytest

from services.ingestion.catalog_entries import read_entry
from services.ingestion.fields import MAX_DEPTH, MAX_EVENT_BYTES, Code
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import Acceptance, Origin, Rejection
from services.ingestion.privacy import Privacy
from services.ingestion.segment import read_message
from slipstream.contracts.events import CatalogRecord, Interaction, NewInteraction
from slipstream.contracts.times import DAY_MS

NOW: Final = 1_760_000_000_000
PRIVACY: Final = Privacy(drop=["phone", "address.street"], hashed=["email"], key="pepper")
HASH: Final = PRIVACY.published({"email": "a@example.org"})["email"]
MESSAGE_FIELDS: Final = {
    "event_id": "messageId",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "event_type": "event",
    "timestamp": "timestamp",
}

Row = dict[str, Any]
# The rejection's code, or the fields of the record that the case is about.
Result = Code | dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A row, and its result.

    `row` changes columns of a valid row; None takes a column away.
    """

    name: str
    row: Row
    expected: Result
    source: str = "interactions"


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels > 1 else []


CASES: Final = [
    # Ids
    Case("a whole number is an id", {"user_id": 7, "item_id": 12},
         {"user_id": "7", "item_id": "12"}),
    Case("a fraction is no id", {"user_id": 1.5}, Code.INVALID_ID),
    Case("true is no id", {"item_id": True}, Code.INVALID_ID),
    Case("a list is no id", {"session_id": ["s"]}, Code.INVALID_ID),
    Case("an id of 256 bytes", {"user_id": "é" * 128}, {"user_id": "é" * 128}),
    Case("an id of 257 bytes", {"user_id": "é" * 128 + "e"}, Code.INVALID_ID),
    Case("an id with NUL", {"item_id": "a\0"}, Code.INVALID_ID),
    Case("an empty id is a missing one", {"session_id": ""}, {"session_id": None}),
    Case("an empty user is a missing one", {"user_id": ""}, Code.MISSING_USER),
    Case("no user", {"user_id": None}, Code.MISSING_USER),
    Case(
        "only an anonymous visitor", {"user_id": None, "anonymous_id": "x"}, {"user_id": "x"},
    ),
    Case(
        "an event id of 256 bytes", {"event_id": "e" * 256}, Code.INVALID_ID,
    ),
    Case("an item without an id", {"item_id": None, "title": "Kettle"}, Code.INVALID_ID, "items"),
    Case("an item's long id", {"item_id": "i" * 257}, Code.INVALID_ID, "items"),
    Case("a user's id as a number", {"user_id": 7}, {"entity_id": "7"}, "users"),
    # Names
    Case("no event", {"event_type": None}, Code.MISSING_NAME),
    Case("an event that gives no token", {"event_type": "7"}, Code.INVALID_NAME),
    Case(
        "a name of Segment's", {"event_type": "Product Viewed"}, {"event_type": "view"},
    ),
    Case(
        "a view of nothing", {"item_id": None}, Code.MISSING_ITEM,
    ),
    # Times
    Case("no time is now", {}, {"timestamp": NOW}),
    Case("milliseconds", {"timestamp": NOW - 5}, {"timestamp": NOW - 5}),
    Case("ISO 8601 without a zone", {"timestamp": "2025-10-09T08:53:20"}, {"timestamp": NOW}),
    Case("ISO 8601 with a zone", {"timestamp": "2025-10-09T10:53:20+02:00"}, {"timestamp": NOW}),
    Case("no time", {"timestamp": "soon"}, Code.INVALID_TIMESTAMP),
    Case("an object as time", {"timestamp": {}}, Code.INVALID_TIMESTAMP),
    Case("before 1970", {"timestamp": "1950-01-01"}, Code.INVALID_TIMESTAMP),
    Case("seconds", {"timestamp": NOW // 1000}, Code.TIMESTAMP_IN_SECONDS),
    Case("microseconds", {"timestamp": NOW * 1000}, Code.TIMESTAMP_IN_FUTURE),
    Case("a day ahead", {"timestamp": NOW + DAY_MS}, {"timestamp": NOW + DAY_MS}),
    Case("more than a day ahead", {"timestamp": NOW + DAY_MS + 1}, Code.TIMESTAMP_IN_FUTURE),
    Case(
        "more than a day old", {"timestamp": NOW - DAY_MS - 1}, Code.TIMESTAMP_TOO_OLD,
    ),
    # Numbers
    Case("a number as text", {"value": "9.5"}, {"value": 9.5}),
    Case("true is no number", {"value": True}, Code.INVALID_VALUE),
    Case("infinity", {"value": "inf"}, Code.INVALID_VALUE),
    Case("a place", {"position": 3.0}, {"position": 3}),
    Case(
        "no place in a list", {"position": "left"}, {"position": None},
    ),
    Case(
        "a place out of range", {"position": 2**31}, {"position": None},
    ),
    # Sizes
    Case("a large event", {"note": "x" * MAX_EVENT_BYTES}, Code.EVENT_TOO_LARGE),
    Case("a large item", {"note": "x" * MAX_EVENT_BYTES}, Code.EVENT_TOO_LARGE, "items"),
    Case("nested too deeply", {"properties": {"a": nested(MAX_DEPTH)}}, Code.NESTED_TOO_DEEPLY),
    Case("an item nested too deeply", {"a": nested(MAX_DEPTH)}, Code.NESTED_TOO_DEEPLY, "items"),
    Case("properties that are a list", {"properties": [1]}, Code.INVALID_OBJECT),
    Case("attributes that are a list", {"attributes": [1]}, Code.INVALID_OBJECT, "users"),
    Case(
        "properties as text", {"properties": '{"size": 42}'}, Code.INVALID_OBJECT,
    ),
    # Attributes of items that others read
    Case("a price as text", {"price": "9,99"}, Code.INVALID_VALUE, "items"),
    Case("a negative price", {"attributes": {"price": -1}}, Code.INVALID_VALUE, "items"),
    Case("categories as text", {"categories": "shoes"}, Code.INVALID_VALUE, "items"),
    Case("an end in seconds", {"expires_at": NOW // 1000}, Code.TIMESTAMP_IN_SECONDS, "items"),
    Case("a free attribute", {"brand": 7}, {"attributes": {"brand": 7}}, "items"),
    Case("available is no text", {"available": "perhaps"}, Code.INVALID_VALUE, "items"),
    Case(
        "available as text", {"available": "false"}, Code.INVALID_VALUE, "items",
    ),
    # Privacy
    Case(
        "dropped and hashed",
        {"properties": {"phone": 1, "email": "a@example.org", "size": 4}},
        {"properties": {"email": HASH, "size": 4}},
    ),
    Case(
        "dropped and hashed at any depth",
        {"guests": [{"phone": 1, "email": "a@example.org", "address": {"street": 1}}]},
        {"properties": {"guests": [{"email": HASH, "address": {}}]}},
    ),
    Case("an address is shortened", {"ip": "203.0.113.77"}, {"properties": {"ip": "203.0.113.0"}}),
    Case(
        "traits of users",
        {"email": "a@example.org", "attributes": {"phone": 1, "ip": "203.0.113.77"}},
        {"attributes": {"email": HASH, "ip": "203.0.113.0"}}, "users",
    ),
    Case("items are no persons", {"phone": "yes"}, {"attributes": {"phone": "yes"}}, "items"),
]  # fmt: skip
BASE: Final[dict[str, Row]] = {
    "interactions": {"user_id": "ada", "event_type": "view", "item_id": "i1"},
    "items": {"item_id": "i1"},
    "users": {"user_id": "ada"},
}


def row_of(case: Case) -> Row:
    row = {**BASE[case.source], **case.row}
    return {name: value for name, value in row.items() if value is not None}


def through_ingestion(
    source: str, row: Row, privacy: Privacy
) -> Code | Interaction | NewInteraction | CatalogRecord:
    origin, rules = Origin("shop", "request-1", NOW), IntakeRules(privacy=privacy)
    if source == "interactions":
        properties = {k: v for k, v in row.items() if k not in MESSAGE_FIELDS and k != "properties"}
        given = row.get("properties", {})
        message = {MESSAGE_FIELDS[k]: v for k, v in row.items() if k in MESSAGE_FIELDS}
        message["properties"] = {**properties, **given} if isinstance(given, dict) else given
        outcome = read_message(message, "track", {}, origin, rules, MAX_EVENT_BYTES)
    else:
        entity = "item" if source == "items" else "user"
        outcome = read_entry(dict(row), entity, origin, rules, MAX_EVENT_BYTES)
    if isinstance(outcome, Rejection):
        return outcome.error.code
    assert isinstance(outcome, Acceptance)
    (record,) = outcome.records
    return record


def held_to(made: Code | Interaction | NewInteraction | CatalogRecord, expected: Result) -> Result:
    """The result, cut to the fields that the case is about."""
    if isinstance(made, Code) or isinstance(expected, Code):
        return made if isinstance(made, Code) else {"made": repr(made)}
    return {name: getattr(made, name) for name in expected}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_row_is_taken_or_rejected_as_the_case_says(case: Case) -> None:
    taken = through_ingestion(case.source, row_of(case), PRIVACY)
    assert held_to(taken, case.expected) == case.expected


@pytest.mark.parametrize("source", BASE)
def test_the_base_of_the_cases_is_taken(source: str) -> None:
    made = through_ingestion(source, BASE[source], PRIVACY)
    assert isinstance(
        made, Interaction | NewInteraction if source == "interactions" else CatalogRecord
    )


@pytest.mark.parametrize("column", ["session_id", "value"])
def test_a_policy_reaches_the_properties_that_have_a_field_in_the_record(column: str) -> None:
    row = {**BASE["interactions"], "session_id": "s-1", "value": 5}
    made = through_ingestion("interactions", row, Privacy(drop=[column]))
    assert isinstance(made, Interaction | NewInteraction)
    assert getattr(made, column) is None
