"""Messages for tests, their outcomes, and generators of JSON that looks like messages."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from services.ingestion.fields import Code
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import Acceptance, Origin, Outcome, Rejection
from services.ingestion.segment import read_message
from slipstream.contracts.events import Interaction, NewInteraction

NOW = 1_760_000_000_000
DAY = 86_400_000
ORIGIN = Origin("shop", "request-1", NOW)
# Fields of a message that ingestion gives its letter.
_SETTLED = frozenset({"messageId", "timestamp", "sentAt"})


def read(
    message: Any,
    kind: str | None = None,
    envelope: dict[str, Any] | None = None,
    limit: int | None = None,
    origin: Origin = ORIGIN,
    rules: IntakeRules | None = None,
) -> Outcome:
    return read_message(message, kind, envelope or {}, origin, rules or IntakeRules(), limit)


def track(event: str = "Product Viewed", properties: Any = None, **fields: Any) -> dict[str, Any]:
    properties = {"product_id": "sku-1"} if properties is None else properties
    return {
        "type": "track",
        "event": event,
        "userId": "ada",
        "messageId": "m-1",
        "properties": properties,
        **fields,
    }


def interactions(message: Any, **arguments: Any) -> list[Interaction]:
    outcome = read(message, **arguments)
    assert isinstance(outcome, Acceptance), outcome
    return [
        Interaction(**msgspec.structs.asdict(record))
        for record in outcome.records
        if isinstance(record, NewInteraction)
    ]


def only_interaction(message: Any, **arguments: Any) -> Interaction:
    (interaction,) = interactions(message, **arguments)
    return interaction


def rejection(message: Any, **arguments: Any) -> tuple[Code, str | None]:
    outcome = read(message, **arguments)
    assert isinstance(outcome, Rejection), outcome
    assert outcome.error.reason
    if type(message) is dict:
        given = {name: message[name] for name in message.keys() - _SETTLED}
        assert outcome.original.items() >= given.items()
        assert outcome.original["messageId"]
    else:
        assert outcome.original == message
    return outcome.error.code, outcome.error.field


def records(message: Any, **arguments: Any) -> list[Any]:
    outcome = read(message, **arguments)
    assert isinstance(outcome, Acceptance), outcome
    return outcome.records


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
KNOWN = (
    "type",
    "event",
    "userId",
    "anonymousId",
    "messageId",
    "timestamp",
    "sentAt",
    "context",
    "traits",
    "name",
    "groupId",
    "previousId",
)
PROPERTIES = (
    "item_id",
    "product_id",
    "sku",
    "products",
    "impressions",
    "value",
    "rating",
    "price",
    "quantity",
    "position",
    "recommendation_id",
    "session_id",
)
CALLS = ("track", "page", "screen", "identify", "group", "alias")
NAMES = st.sampled_from(
    [
        *CALLS,
        "Product Viewed",
        "Order Completed",
        "Product List Viewed",
        "rate",
        "ada",
        "2025-10-01",
    ]
)
messages = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(KNOWN, NAMES | json_values),
        "properties": json_values
        | st.fixed_dictionaries({}, optional=dict.fromkeys(PROPERTIES, NAMES | json_values)),
    },
)
