"""Segment's calls become records, or are rejected with a code and a field."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingestion.event_names import EventNames
from services.ingestion.fields import Code
from services.ingestion.intake_rules import IntakeRules, TrackingPlan
from services.ingestion.outcomes import Acceptance, Rejection, answer
from services.ingestion.segment import bot_word
from slipstream.broker.records import decode, encode
from slipstream.contracts.events import CatalogRecord, Interaction, NewInteraction
from slipstream.contracts.topics import INTERACTIONS, topic_of
from slipstream.contracts.vocabulary import MERGED_INTO
from tests.unit.ingestion.payloads import (
    CALLS,
    DAY,
    NOW,
    json_values,
    messages,
    only_interaction,
    read,
    records,
    rejection,
    track,
)


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
    interaction = only_interaction(
        track("Product Added", properties, anonymousId="anon", timestamp="2025-10-09T00:00:00.250Z")
    )
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


def test_screen_is_like_a_page() -> None:
    screen = {
        "type": "screen",
        "userId": "ada",
        "name": "Home",
        "category": "Shop",
        "properties": {"tab": 1},
    }
    assert (only_interaction(screen).event_type, only_interaction(screen).properties) == (
        "screen",
        {"name": "Home", "category": "Shop", "tab": 1},
    )
    assert only_interaction({**screen, "properties": {"sku": "a"}}).event_type == "view"


def test_group_is_an_event_without_an_item() -> None:
    group = {"type": "group", "userId": "ada", "groupId": 7, "traits": {"plan": "gold", "value": 3}}
    interaction = only_interaction(group)
    assert (interaction.event_type, interaction.item_id, interaction.user_id) == (
        "group",
        None,
        "ada",
    )
    assert interaction.properties == {"groupId": "7", "traits": {"plan": "gold", "value": 3}}


def identity(visitor: str, user_id: str) -> CatalogRecord:
    return CatalogRecord(
        entity="identity",
        entity_id=visitor,
        attributes={MERGED_INTO: user_id},
        timestamp=NOW,
        source="shop",
    )


def test_alias_merges_a_visitor_into_a_user() -> None:
    alias = {"type": "alias", "userId": "ada", "previousId": "anon"}
    assert records(alias) == [identity("anon", "ada")]
    assert records({"type": "alias", "userId": "ada", "anonymousId": "anon"}) == [
        identity("anon", "ada")
    ]
    assert records({**alias, "previousId": "ada"}) == []


def test_identify_with_both_ids_merges_the_visitor_and_keeps_traits() -> None:
    identify = {"type": "identify", "userId": "ada", "anonymousId": "anon"}
    assert records(identify) == [identity("anon", "ada")]
    merge, entry = records({**identify, "traits": {"a": 1}})
    assert (merge, entry.entity, entry.entity_id) == (identity("anon", "ada"), "user", "ada")
    assert records({**identify, "anonymousId": "ada"}) == []


def test_outcome_knows_whether_the_client_gave_the_message_id() -> None:
    assert read(track()).named is True  # type: ignore[union-attr]
    assert read(track(messageId=None)).named is False  # type: ignore[union-attr]


def test_plan_is_checked_and_mapped_names_count() -> None:
    rules = IntakeRules(
        names=EventNames({"Seen": "view"}), plan=TrackingPlan({"Seen": {"required": ["sku"]}})
    )
    assert only_interaction(track("Seen", {"sku": "a"}), rules=rules).event_type == "view"
    assert rejection(track("seen", {"product_id": "a"}), rules=rules) == (
        Code.PLAN_VIOLATION,
        "properties.sku",
    )


def test_page_with_a_product_is_a_view_and_any_other_a_page() -> None:
    page = {"type": "page", "anonymousId": "anon", "name": "Home", "properties": {"path": "/"}}
    assert (
        only_interaction(page).event_type,
        only_interaction(page).item_id,
        only_interaction(page).properties,
    ) == (
        "page",
        None,
        {"name": "Home", "path": "/"},
    )
    assert (only_interaction(page).user_id, only_interaction(page).anonymous_id) == ("anon", "anon")
    product_page = {**page, "properties": {"product_id": "sku-1"}}
    assert (only_interaction(product_page).event_type, only_interaction(product_page).item_id) == (
        "view",
        "sku-1",
    )


def test_identify_makes_a_user_s_catalogue_entry() -> None:
    outcome = read({"userId": "ada", "traits": {"country": "NZ"}}, kind="identify")
    assert isinstance(outcome, Acceptance)
    assert outcome.records == [
        CatalogRecord(
            entity="user",
            entity_id="ada",
            attributes={"country": "NZ"},
            timestamp=NOW,
            source="shop",
        )
    ]


def test_identify_without_traits_changes_nothing() -> None:
    outcome = read({"type": "identify", "userId": "ada"})
    assert isinstance(outcome, Acceptance)
    assert outcome.records == []


def test_numbers_as_ids_become_strings() -> None:
    interaction = only_interaction(track(properties={"product_id": 7}, userId=12, messageId=99))
    assert (interaction.user_id, interaction.item_id, interaction.event_id) == ("12", "7", "99")


def test_message_id_is_made_and_returned_when_missing() -> None:
    first, second = read(track(messageId=None)), read(track(messageId=""))
    assert isinstance(first, Acceptance)
    assert isinstance(second, Acceptance)
    assert first.message_id != second.message_id
    assert [record.event_id for record in first.records if isinstance(record, NewInteraction)] == [
        first.message_id
    ]


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
        (track(type="group"), Code.MISSING_GROUP, "groupId"),
        (track(type="group", groupId="g", traits=[]), Code.INVALID_OBJECT, "traits"),
        (track(type="alias"), Code.MISSING_USER, "previousId"),
        (track(type="alias", userId=None, anonymousId="a"), Code.MISSING_USER, "userId"),
        (track(event="x " * 200), Code.INVALID_NAME, "event"),
        (track(properties={"sku": "a", "impressions": [{}]}), Code.MISSING_ITEM,
         "properties.impressions.0"),
        (track(event=""), Code.MISSING_NAME, "event"),
        (track(event=3), Code.INVALID_NAME, "event"),
        (track(event="!!"), Code.INVALID_NAME, "event"),
        (track(event="2 fast"), Code.INVALID_NAME, "event"),
        (track(event="x" * 65), Code.INVALID_NAME, "event"),
        (track(properties=[1]), Code.INVALID_OBJECT, "properties"),
        (track(context="web"), Code.INVALID_OBJECT, "context"),
        (track(properties={"price": 1}), Code.MISSING_ITEM, "properties.item_id"),
        (track("Order Completed", {"products": []}), Code.MISSING_ITEM, "properties.products"),
        (track("Order Completed", {"products": [{"sku": "a"}, {}]}), Code.MISSING_ITEM,
         "properties.products.1"),
        (track("Order Completed", {"products": [{"sku": []}]}), Code.INVALID_ID,
         "properties.products.0.sku"),
        (track(properties={"sku": "a", "value": "dear"}), Code.INVALID_VALUE, "properties.value"),
        (track("rate", {"sku": "a", "rating": {}}), Code.INVALID_VALUE, "properties.rating"),
        (track(properties={"sku": "a", "recommendation_id": 1.5}), Code.INVALID_ID,
         "properties.recommendation_id"),
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
def test_bad_message_is_rejected_with_code_and_field(
    message: Any, code: Code, field: str | None
) -> None:
    assert rejection(message) == (code, field)


def test_event_above_the_limit_is_rejected() -> None:
    assert (
        rejection(track(properties={"sku": "a", "text": "x" * 400}), limit=300)[0]
        is Code.EVENT_TOO_LARGE
    )


def test_event_nested_too_deeply_is_rejected() -> None:
    nested: dict[str, Any] = {}
    for _ in range(300):
        nested = {"in": nested}
    assert rejection(track(properties=nested))[0] is Code.NESTED_TOO_DEEPLY


@given(json_values | messages, st.sampled_from([None, *CALLS]), messages)
def test_any_json_is_taken_whole_or_rejected_with_a_reason(
    message: Any, kind: str | None, envelope: dict[str, Any]
) -> None:
    outcome = read(message, kind, envelope)
    if isinstance(outcome, Rejection):
        assert outcome.error.reason
        assert outcome.error.code in Code
        return
    for record in outcome.records:
        if isinstance(record, NewInteraction):
            decoded = decode(INTERACTIONS, encode(record))
            assert decoded == Interaction(**msgspec.structs.asdict(record))
        else:
            assert decode(topic_of(record), encode(record)) == record


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 AppleWebKit/537.36 (compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/139.0.0.0 Safari/537.36",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "Mozilla/5.0 (Linux; Android 11) Chrome/119.0.0.0 Mobile Safari/537.36 Chrome-Lighthouse",
    ],
)
def test_crawlers_previewers_and_monitors_are_known(agent: str) -> None:
    assert bot_word(agent)


@pytest.mark.parametrize(
    "agent",
    [
        "",
        "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5) AppleWebKit/605.1.15 Version/18.5 Safari/604.1",
        "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 Chrome/120.0 Mobile",
        "analytics-python/2.4.0",
        "python-requests/2.32.3",
        "okhttp/4.12.0",
        "curl/8.5.0",
    ],
)
def test_browsers_and_libraries_are_none(agent: str) -> None:
    assert not bot_word(agent)


ZONELESS = "its time has no zone, and is taken as UTC"


@pytest.mark.parametrize(
    ("message", "remark"),
    [
        (track("Product Viewed", {"sku": "a"}), ""),
        (
            track("Product Veiwed", {"sku": "a"}),
            "product_veiwed is a type of its own, and counts for its item as a view does; "
            "did you mean Product Viewed?",
        ),
        (
            track("Produkt angesehen", {"sku": "a"}),
            "produkt_angesehen is a type of its own, and counts for its item as a view does",
        ),
        (track("Video Started", {}), ""),
        (track("Product Viewed", {"sku": "a"}, timestamp="2025-10-09T00:00:00"), ZONELESS),
        (track("Product Viewed", {"sku": "a"}, timestamp="2025-10-09"), ZONELESS),
        (track("Product Viewed", {"sku": "a"}, timestamp="2025-10-09T00:00:00+0200"), ""),
        (
            track("Product Viewed", {"sku": "a"}, timestamp=NOW + 7_200_000),
            "its time is 120 minutes ahead, and until then it is the visitor's newest event",
        ),
        (track("Product Viewed", {"sku": "a"}, timestamp=NOW + 240_000), ""),
        ({"type": "identify", "userId": "ada", "traits": {"a": 1}}, ""),
    ],
)
def test_what_may_be_meant_otherwise_has_a_remark(message: dict[str, Any], remark: str) -> None:
    outcome = read(message)
    assert isinstance(outcome, Acceptance) and outcome.remark == remark
    (result,) = answer([outcome])["results"]
    assert result.get("remark", "") == remark
