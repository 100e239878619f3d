from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingestion.rules import Rules
from services.ingestion.segment import read_message
from services.ingestion.verdicts import Code, Origin, Outcome, Rejected, Taken
from slipstream.broker import codec
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.topics import CATALOG, INTERACTIONS

NOW = 1_760_000_000_000
DAY = 86_400_000
ORIGIN = Origin("shop", "request-1", NOW)


def read(
    message: Any,
    kind: str | None = None,
    envelope: dict[str, Any] | None = None,
    limit: int | None = None,
    origin: Origin = ORIGIN,
    rules: Rules | None = None,
) -> Outcome:
    return read_message(message, kind, envelope or {}, origin, rules or Rules(), limit)


def track(event: str = "Product Viewed", properties: Any = None, **fields: Any) -> dict[str, Any]:
    properties = {"product_id": "sku-1"} if properties is None else properties
    return {"type": "track", "event": event, "userId": "ada", "messageId": "m-1", "properties": properties, **fields}


def interactions(message: Any, **arguments: Any) -> list[Interaction]:
    outcome = read(message, **arguments)
    assert isinstance(outcome, Taken), outcome
    return [record for record in outcome.records if isinstance(record, Interaction)]


def one(message: Any, **arguments: Any) -> Interaction:
    (interaction,) = interactions(message, **arguments)
    return interaction


def rejection(message: Any, **arguments: Any) -> tuple[Code, str | None]:
    outcome = read(message, **arguments)
    assert isinstance(outcome, Rejected), outcome
    assert outcome.error.reason
    assert outcome.original == message
    return outcome.error.code, outcome.error.field


@pytest.mark.parametrize(
    ("event", "event_type"),
    [
        ("Product Viewed", "view"),
        ("product viewed", "view"),
        ("Product Clicked", "click"),
        ("Product Added", "cart"),
        ("Product Removed", "remove"),
        ("Product Added to Wishlist", "wishlist"),
        ("Product Reviewed", "rate"),
        ("Order Completed", "purchase"),
        ("Completed Order", "purchase"),
        ("view", "view"),
        ("rate", "rate"),
        ("Video Started", "video_started"),
    ],
)
def test_event_name_gives_the_type(event: str, event_type: str) -> None:
    assert one(track(event)).event_type == event_type


def test_fields_of_an_interaction_come_from_the_call() -> None:
    properties = {
        "sku": 42,
        "price": 9.5,
        "quantity": 2,
        "position": 3,
        "recommendation_id": "r-1",
        "session_id": "s-1",
        "colour": "blue",
    }
    interaction = one(track("Product Added", properties, anonymousId="anon", timestamp="2025-10-09T00:00:00.250Z"))
    assert interaction == Interaction(
        event_id="m-1",
        event_type="cart",
        user_id="ada",
        anonymous_id="anon",
        item_id="42",
        timestamp=int(datetime(2025, 10, 9, tzinfo=UTC).timestamp() * 1000) + 250,
        received_at=NOW,
        session_id="s-1",
        value=19.0,
        recommendation_id="r-1",
        position=3,
        source="shop",
        properties={"sku": 42, "price": 9.5, "quantity": 2, "position": 3, "colour": "blue"},
    )


def test_order_makes_an_interaction_for_each_product() -> None:
    order = {
        "order_id": "o-1",
        "revenue": 100.0,
        "products": [{"product_id": "a", "price": 10, "quantity": 3}, {"sku": "b", "price": "2.5"}, {"item_id": "c"}],
    }
    bought = interactions(track("Order Completed", order))
    assert [(i.event_id, i.item_id, i.value, i.event_type) for i in bought] == [
        ("m-1:0", "a", 30.0, "purchase"),
        ("m-1:1", "b", 2.5, "purchase"),
        ("m-1:2", "c", None, "purchase"),
    ]
    assert all(i.properties["order_id"] == "o-1" and "products" not in i.properties for i in bought)


def test_order_of_one_product_takes_the_order_s_revenue() -> None:
    assert one(track("Order Completed", {"revenue": 12.0, "products": [{"product_id": "a"}]})).value == 12.0


def test_product_list_makes_impressions_with_their_places() -> None:
    shown = interactions(
        track(
            "Product List Viewed",
            {"list_id": "home", "recommendation_id": "r-9", "products": [{"product_id": "a"}, "b", {"sku": "c", "position": 7}]},
        )
    )
    assert [(i.event_type, i.item_id, i.position, i.recommendation_id) for i in shown] == [
        ("impression", "a", 0, "r-9"),
        ("impression", "b", 1, "r-9"),
        ("impression", "c", 7, "r-9"),
    ]


def test_large_properties_of_an_order_are_not_copied_to_each_product() -> None:
    bought = interactions(
        track("Order Completed", {"coupon": "x" * 10_000, "note": "y", "products": [{"sku": "a"}, {"sku": "b"}]})
    )
    assert all(i.properties == {"sku": i.item_id} for i in bought)


def test_search_needs_no_item() -> None:
    interaction = one(track("Products Searched", {"query": "boots"}))
    assert (interaction.event_type, interaction.item_id, interaction.properties) == ("search", None, {"query": "boots"})


def test_page_with_a_product_is_a_view_and_any_other_a_page() -> None:
    page = {"type": "page", "anonymousId": "anon", "name": "Home", "properties": {"path": "/"}}
    assert (one(page).event_type, one(page).item_id, one(page).properties) == ("page", None, {"name": "Home", "path": "/"})
    assert (one(page).user_id, one(page).anonymous_id) == ("anon", "anon")
    product_page = {**page, "properties": {"product_id": "sku-1"}}
    assert (one(product_page).event_type, one(product_page).item_id) == ("view", "sku-1")


def test_identify_makes_a_user_s_catalogue_entry() -> None:
    outcome = read({"userId": "ada", "traits": {"country": "NZ"}}, kind="identify")
    assert isinstance(outcome, Taken)
    assert outcome.records == [
        CatalogRecord(entity="user", entity_id="ada", attributes={"country": "NZ"}, timestamp=NOW, source="shop")
    ]


def test_identify_without_traits_changes_nothing() -> None:
    outcome = read({"type": "identify", "userId": "ada"})
    assert isinstance(outcome, Taken)
    assert outcome.records == []


def test_numbers_as_ids_become_strings() -> None:
    interaction = one(track(properties={"product_id": 7}, userId=12, messageId=99))
    assert (interaction.user_id, interaction.item_id, interaction.event_id) == ("12", "7", "99")


def test_message_id_is_made_and_returned_when_missing() -> None:
    first, second = read(track(messageId=None)), read(track(messageId=""))
    assert isinstance(first, Taken)
    assert isinstance(second, Taken)
    assert first.message_id != second.message_id
    assert [record.event_id for record in first.records if isinstance(record, Interaction)] == [first.message_id]


def test_timestamp_defaults_to_the_moment_of_receipt() -> None:
    assert one(track()).timestamp == NOW


@pytest.mark.parametrize(
    "timestamp", [NOW - 5_000, "2025-10-09T08:53:15Z", "2025-10-09T08:53:15", "2025-10-09T10:53:15.000+02:00"]
)
def test_timestamp_may_be_milliseconds_or_iso(timestamp: Any) -> None:
    assert one(track(timestamp=timestamp)).timestamp == NOW - 5_000


@pytest.mark.parametrize("offset", [-3 * DAY, -1, 0, 7 * DAY])
def test_clock_skew_is_corrected_from_sent_at(offset: int) -> None:
    """The event happened two seconds before it was sent, and was received at once, whatever the client's clock says."""
    sent = NOW + offset
    assert one(track(timestamp=sent - 2_000, sentAt=sent)).timestamp == NOW - 2_000
    assert one(track(timestamp=sent - 2_000), envelope={"sentAt": sent}).timestamp == NOW - 2_000


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        (7, Code.NOT_AN_OBJECT, None),
        ([], Code.NOT_AN_OBJECT, None),
        ({}, Code.MISSING_USER, "userId"),
        (track(userId=""), Code.MISSING_USER, "userId"),
        (track(userId={}), Code.INVALID_ID, "userId"),
        (track(userId=True), Code.INVALID_ID, "userId"),
        (track(userId="é" * 129), Code.INVALID_ID, "userId"),
        (track(messageId="x" * 251), Code.INVALID_ID, "messageId"),
        (track(type=None), Code.UNSUPPORTED_TYPE, "type"),
        (track(type="delete"), Code.UNSUPPORTED_TYPE, "type"),
        (track(type=["track"]), Code.UNSUPPORTED_TYPE, "type"),
        (track(event=""), Code.MISSING_NAME, "event"),
        (track(event=3), Code.INVALID_NAME, "event"),
        (track(event="!!"), Code.INVALID_NAME, "event"),
        (track(event="2 fast"), Code.INVALID_NAME, "event"),
        (track(event="x" * 65), Code.INVALID_NAME, "event"),
        (track(properties=[1]), Code.INVALID_OBJECT, "properties"),
        (track(context="web"), Code.INVALID_OBJECT, "context"),
        (track(properties={"price": 1}), Code.MISSING_ITEM, "properties.item_id"),
        (track("Order Completed", {"products": []}), Code.MISSING_ITEM, "properties.products"),
        (track("Order Completed", {"products": [{"sku": "a"}, {}]}), Code.MISSING_ITEM, "properties.products.1"),
        (track("Order Completed", {"products": [{"sku": []}]}), Code.INVALID_ID, "properties.products.0.sku"),
        (track(properties={"sku": "a", "value": "dear"}), Code.INVALID_VALUE, "properties.value"),
        (track("rate", {"sku": "a", "rating": {}}), Code.INVALID_VALUE, "properties.rating"),
        (track(properties={"sku": "a", "recommendation_id": 1.5}), Code.INVALID_ID, "properties.recommendation_id"),
        (track(timestamp="yesterday"), Code.INVALID_TIMESTAMP, "timestamp"),
        (track(timestamp=-1), Code.INVALID_TIMESTAMP, "timestamp"),
        (track(timestamp=True), Code.INVALID_TIMESTAMP, "timestamp"),
        (track(timestamp=NOW // 1000), Code.TIMESTAMP_IN_SECONDS, "timestamp"),
        (track(originalTimestamp=NOW // 1000), Code.TIMESTAMP_IN_SECONDS, "originalTimestamp"),
        (track(timestamp=NOW + DAY + 1), Code.TIMESTAMP_IN_FUTURE, "timestamp"),
        (track(timestamp=NOW * 1000), Code.TIMESTAMP_IN_FUTURE, "timestamp"),
        (track(timestamp=NOW, sentAt="soon"), Code.INVALID_TIMESTAMP, "sentAt"),
    ],
)  # fmt: skip
def test_bad_message_is_rejected_with_code_and_field(message: Any, code: Code, field: str | None) -> None:
    assert rejection(message) == (code, field)


def test_nul_in_an_id_and_too_many_products_are_rejected() -> None:
    assert rejection(track(properties={"product_id": "a\x00b"}))[0] == Code.INVALID_ID
    products = [{"product_id": str(number)} for number in range(501)]
    assert rejection(track("Order Completed", {"products": products})) == (Code.EVENT_TOO_LARGE, "properties.products")


def test_event_above_the_limit_is_rejected() -> None:
    assert rejection(track(properties={"sku": "a", "text": "x" * 400}), limit=300)[0] is Code.EVENT_TOO_LARGE


def test_event_nested_too_deeply_is_rejected() -> None:
    nested: dict[str, Any] = {}
    for _ in range(300):
        nested = {"in": nested}
    assert rejection(track(properties=nested))[0] is Code.NESTED_TOO_DEEPLY


def test_money_that_is_no_number_does_not_cost_the_event() -> None:
    interaction = one(track("Product Added", {"sku": "a", "price": "19,99 €"}))
    assert (interaction.value, interaction.properties["price"]) == (None, "19,99 €")


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
KNOWN = ("type", "event", "userId", "anonymousId", "messageId", "timestamp", "sentAt", "context", "traits", "name")
PROPERTIES = (
    "item_id",
    "product_id",
    "sku",
    "products",
    "value",
    "rating",
    "price",
    "quantity",
    "position",
    "recommendation_id",
    "session_id",
)
NAMES = st.sampled_from(
    ["track", "page", "identify", "Product Viewed", "Order Completed", "Product List Viewed", "rate", "ada", "2025-10-01"]
)
messages = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(KNOWN, NAMES | json_values),
        "properties": json_values | st.fixed_dictionaries({}, optional=dict.fromkeys(PROPERTIES, NAMES | json_values)),
    },
)


@given(json_values | messages, st.sampled_from([None, "track", "page", "identify"]), messages)
def test_any_json_is_taken_whole_or_rejected_with_a_reason(message: Any, kind: str | None, envelope: dict[str, Any]) -> None:
    outcome = read(message, kind, envelope)
    if isinstance(outcome, Rejected):
        assert outcome.error.reason
        assert outcome.error.code in Code
        return
    for record in outcome.records:
        topic = INTERACTIONS if isinstance(record, Interaction) else CATALOG
        assert codec.decode(topic, codec.encode(record)) == record
