from typing import Any

import pytest

from services.ingestion.catalog_entries import deletion, read_entry, read_patch_of
from services.ingestion.fields import Code
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import Acceptance, Origin, Rejection, answer
from services.ingestion.privacy import Privacy
from slipstream.contracts.events import CatalogRecord

ORIGIN = Origin("shop", "request-1", 1_760_000_000_000)


def record(entry: Any, entity: Any = "item") -> CatalogRecord:
    outcome = read_entry(entry, entity, ORIGIN, IntakeRules())
    assert isinstance(outcome, Acceptance), outcome
    (made,) = outcome.records
    assert isinstance(made, CatalogRecord)
    return made


def test_item_keeps_attributes_beside_its_id_and_under_attributes() -> None:
    made = record({"item_id": "sku-1", "title": "Blue shoes", "attributes": {"price": 9.5}})
    assert (made.entity, made.entity_id, made.attributes, made.available) == (
        "item",
        "sku-1",
        {"title": "Blue shoes", "price": 9.5},
        True,
    )
    assert (made.timestamp, made.source) == (ORIGIN.received_at, "shop")


def test_item_can_be_made_unavailable() -> None:
    made = record({"item_id": 7, "available": False})
    assert (made.entity_id, made.available, made.attributes) == ("7", False, {})


def test_well_known_attributes_are_kept_as_they_came_and_null_is_as_good_as_missing() -> None:
    known = {
        "title": "A",
        "description": "B",
        "categories": ["c"],
        "price": 9,
        "image_url": "https://x",
        "text": ["free"],
    }
    for expires_at in (1_800_000_000_000, "2027-01-15T08:00:00Z"):
        assert record({"item_id": "a", **known, "expires_at": expires_at}).attributes == {
            **known,
            "expires_at": expires_at,
        }
    nothing = dict.fromkeys((*known, "expires_at"))
    assert record({"item_id": "a", **nothing}).attributes == nothing
    assert record({"user_id": "ada", "price": "any"}, "user").attributes == {"price": "any"}


def test_user_is_a_user_s_entry() -> None:
    assert record({"user_id": "ada", "country": "NZ"}, "user").entity == "user"


def test_deletion_is_a_record_that_says_so() -> None:
    outcome = deletion("item", "sku/1", ORIGIN)
    assert isinstance(outcome, Acceptance)
    assert outcome.records == [
        CatalogRecord(
            entity="item",
            entity_id="sku/1",
            deleted=True,
            timestamp=ORIGIN.received_at,
            source="shop",
        )
    ]


@pytest.mark.parametrize(
    ("entry", "code", "field"),
    [
        ("sku-1", Code.NOT_AN_OBJECT, None),
        ({}, Code.INVALID_ID, "item_id"),
        ({"item_id": None}, Code.INVALID_ID, "item_id"),
        ({"item_id": "a", "available": "yes"}, Code.INVALID_VALUE, "available"),
        ({"item_id": "a", "attributes": []}, Code.INVALID_OBJECT, "attributes"),
        ({"item_id": "a", "price": "9.50"}, Code.INVALID_VALUE, "price"),
        ({"item_id": "a", "price": True}, Code.INVALID_VALUE, "price"),
        ({"item_id": "a", "attributes": {"price": -1}}, Code.INVALID_VALUE, "attributes.price"),
        ({"item_id": "a", "categories": "shoes"}, Code.INVALID_VALUE, "categories"),
        ({"item_id": "a", "categories": ["shoes", 1]}, Code.INVALID_VALUE, "categories"),
        ({"item_id": "a", "image_url": {}}, Code.INVALID_VALUE, "image_url"),
        ({"item_id": "a", "title": 1}, Code.INVALID_VALUE, "title"),
        ({"item_id": "a", "expires_at": "soon"}, Code.INVALID_TIMESTAMP, "expires_at"),
        ({"item_id": "a", "published_at": "yesterday"}, Code.INVALID_TIMESTAMP, "published_at"),
        ({"item_id": "a", "expires_at": 1_800_000_000}, Code.TIMESTAMP_IN_SECONDS, "expires_at"),
    ],
)
def test_bad_entry_is_rejected_with_code_and_field(
    entry: Any, code: Code, field: str | None
) -> None:
    outcome = read_entry(entry, "item", ORIGIN, IntakeRules())
    assert isinstance(outcome, Rejection)
    assert (outcome.error.code, outcome.error.field) == (code, field)


def test_entry_above_the_limit_is_rejected() -> None:
    outcome = read_entry({"item_id": "a", "text": "x" * 500}, "item", ORIGIN, IntakeRules(), 300)
    assert isinstance(outcome, Rejection)
    assert outcome.error.code is Code.EVENT_TOO_LARGE


def test_a_patch_names_what_changes_and_null_removes() -> None:
    made = record({"item_id": "a", "price": 5, "sale": None}, "item_patch")
    assert (made.entity, made.attributes, made.available) == (
        "item_patch",
        {"price": 5, "sale": None},
        None,
    )
    assert record({"item_id": "a", "available": None}, "item_patch").available is True
    assert record({"item_id": "a", "available": False}, "item_patch").available is False


def test_a_patch_of_a_user_is_read_as_one_of_an_item_with_the_privacy_of_traits() -> None:
    rules = IntakeRules(privacy=Privacy(drop=["email"], hashed=["phone"], key="k"))
    patch = {"plan": "pro", "email": "a@b.c", "phone": None, "price": "any"}
    outcome = read_patch_of("ada", patch, "user_patch", ORIGIN, rules)
    assert isinstance(outcome, Acceptance)
    (made,) = outcome.records
    assert isinstance(made, CatalogRecord)
    assert (made.entity, made.entity_id, made.available) == ("user_patch", "ada", None)
    assert made.attributes == {"plan": "pro", "phone": None, "price": "any"}
    refused = read_patch_of("ada", {"user_id": "bob"}, "user_patch", ORIGIN, rules)
    assert isinstance(refused, Rejection)
    assert (refused.error.field, refused.original["type"]) == ("user_id", "user_patch")


@pytest.mark.parametrize(
    ("patch", "code", "field"),
    [
        (5, Code.NOT_AN_OBJECT, None),
        ({"item_id": "b"}, Code.INVALID_ID, "item_id"),
        ({"price": "5"}, Code.INVALID_VALUE, "price"),
        ({"available": "no"}, Code.INVALID_VALUE, "available"),
    ],
)
def test_a_bad_patch_is_rejected_and_its_letter_says_that_it_is_one(
    patch: Any, code: Code, field: str | None
) -> None:
    outcome = read_patch_of("a", patch, "item_patch", ORIGIN, IntakeRules())
    assert isinstance(outcome, Rejection)
    assert (outcome.error.code, outcome.error.field) == (code, field)
    assert type(patch) is not dict or outcome.original["type"] == "item_patch"


@pytest.mark.parametrize(
    ("attributes", "available"),
    [
        ({"in_stock": False}, False),
        ({"availability": "https://schema.org/OutOfStock"}, False),
        ({"availability": "out of stock"}, False),
        ({"isAvailable": 1}, True),
        ({"availability": "in two weeks"}, True),
        ({"attributes": {"available": "no"}}, False),
        ({"available": True, "in_stock": False}, True),
    ],
)
def test_availability_is_known_by_its_other_names_and_they_stay_attributes(
    attributes: dict[str, Any], available: bool
) -> None:
    made = record({"item_id": "a", **attributes})
    assert made.available is available
    further = {name: value for name, value in attributes.items() if name != "available"}
    assert made.attributes == further.pop("attributes", {}) | further


def test_names_that_nobody_reads_are_answered_with_a_hint_once() -> None:
    def outcome(**attributes: Any) -> Acceptance:
        made = read_entry({"item_id": "a", **attributes}, "item", ORIGIN, IntakeRules())
        assert isinstance(made, Acceptance)
        return made

    told = answer([outcome(name="Lamp", qty=3, in_stock=True), outcome(name="Bulb", colour="red")])
    assert told["hints"] == [
        "name is kept under this name; what is read as title is `title`",
        "qty is kept under this name; what is read as stock is `stock`",
        "in_stock is read as `available`",
    ]
    assert "hints" not in answer([outcome(title="Lamp", name="L", item_group_id="g")])
    missing = read_entry({"sku": "a"}, "item", ORIGIN, IntakeRules())
    assert isinstance(missing, Rejection)
    assert missing.error.reason == "item_id is required; sku is not read as it"
