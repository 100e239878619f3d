"""The mapping file and the tracking plan: their meaning, their faults, and changes to them."""

import asyncio
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.ingestion.event_names import EventNames, read_mapping
from services.ingestion.fields import Code, RejectionError
from services.ingestion.intake_rules import IntakeRules, TrackingPlan, follow, read_plan
from tests.unit.ingestion.collector import settings_with

PRICED = {
    "type": "object",
    "required": ["price"],
    "properties": {"price": {"type": "number", "minimum": 0}},
}


def violation(plan: TrackingPlan, event: str, properties: dict[str, Any]) -> tuple[str | None, str]:
    with pytest.raises(RejectionError) as caught:
        plan.check(event, properties)
    assert caught.value.code is Code.PLAN_VIOLATION
    return caught.value.field, caught.value.reason


def test_mapping_adds_names_and_changes_segment_s() -> None:
    names = read_mapping(
        b'{"Produkt angesehen": "view", "product viewed": "glance", "Heart": "like"}'
    )
    assert [
        names.classify(name)[:3]
        for name in ("produkt_angesehen", "Product Viewed", "heart", "Product Added")
    ] == [
        ("view", True, None),
        ("glance", False, None),
        ("like", True, None),
        ("cart", True, None),
    ]
    assert EventNames().classify("Product Viewed").event_type == "view"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"{", "not JSON"),
        (b"[]", "JSON object"),
        (b'{"!": "view"}', "neither letters nor digits"),
        (b'{"a": "View!"}', "'a' must be given a type"),
        (b'{"a": 1}', "'a' must be given a type"),
        (b'{"A b": "view", "a_b": "click"}', "twice"),
    ],
)
def test_wrong_mapping_says_what_is_wrong(data: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_mapping(data)


def test_plan_names_the_field_that_breaks_it_and_never_its_value() -> None:
    plan = TrackingPlan(
        {
            "Product Viewed": PRICED,
            "Order Completed": {
                "properties": {"products": {"items": {"required": ["sku"]}}},
                "additionalProperties": False,
            },
        }
    )
    plan.check("product_viewed", {"price": 1.5, "more": True})
    plan.check("Not Planned", {})
    assert violation(plan, "Product Viewed", {"price": "secret"})[0] == "properties.price"
    assert "secret" not in violation(plan, "Product Viewed", {"price": "secret"})[1]
    assert violation(plan, "Product Viewed", {})[0] == "properties.price"
    assert (
        violation(plan, "Order Completed", {"products": [{"sku": 1}, {}]})[0]
        == "properties.products.1.sku"
    )
    assert violation(plan, "Order Completed", {"total": 1})[0] == "properties"


def test_plan_may_refuse_what_is_not_in_it() -> None:
    plan = read_plan(orjson.dumps({"events": {"Product Viewed": PRICED}, "additional": "reject"}))
    assert violation(plan, "Not Planned", {})[0] == "event"


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        ([], "events"),
        ({"events": []}, "events"),
        ({"events": {}, "extra": 1}, "extra"),
        ({"events": {}, "additional": "maybe"}, "additional"),
        ({"events": {"Product Viewed": {"type": "strng"}}}, "'Product Viewed' is no JSON Schema"),
        ({"events": {"Product Viewed": 7}}, "'Product Viewed' is no JSON Schema"),
        ({"events": {"A": {"$ref": "https://schemas.example/a.json"}}}, "'A' is no JSON Schema"),
        ({"events": {"A b": {}, "a_b": {}}}, "twice"),
    ],
)
def test_wrong_plan_says_what_is_wrong(plan: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_plan(orjson.dumps(plan))


def test_plan_checks_formats_and_reads_no_other_file(tmp_path: Path) -> None:
    plan = TrackingPlan({"Signed Up": {"properties": {"email": {"format": "email"}}}})
    plan.check("Signed Up", {"email": "a@shop.example"})
    assert violation(plan, "Signed Up", {"email": "a"})[0] == "properties.email"
    other = tmp_path / "other.json"
    other.write_bytes(orjson.dumps(PRICED))
    with pytest.raises(ValueError, match="'A' is no JSON Schema"):
        TrackingPlan({"A": {"$ref": other.as_uri()}})


def write(path: Path, value: Any, age_s: float) -> None:
    path.write_bytes(orjson.dumps(value))
    os.utime(path, (1_700_000_000 - age_s,) * 2)


def test_files_are_read_again_when_they_change_and_a_broken_one_changes_nothing(
    tmp_path: Path,
) -> None:
    mapping, plan = tmp_path / "mapping.json", tmp_path / "plan.json"
    write(mapping, {"Heart": "like"}, 9)
    write(plan, {"events": {}}, 9)
    rules = IntakeRules.of(settings_with(event_mapping=str(mapping), tracking_plan=str(plan)))
    assert rules.names.classify("heart").event_type == "like"
    before = rules.plan

    def refresh() -> None:
        for file in rules.files:
            file.refresh()

    refresh()
    assert rules.plan is before
    write(mapping, {"Heart": "wishlist"}, 8)
    write(plan, {"events": [], "additional": 7}, 8)
    refresh()
    assert rules.names.classify("heart").event_type == "wishlist"
    assert rules.plan is before
    mapping.unlink()
    refresh()
    refresh()
    assert rules.names.classify("heart").event_type == "wishlist"
    write(mapping, {"Heart": "rate"}, 8)
    write(plan, {"events": {}, "additional": "reject"}, 7)
    refresh()
    assert rules.names.classify("heart").event_type == "rate"
    assert rules.plan is not None and violation(rules.plan, "x", {})[0] == "event"


async def test_files_are_followed_while_the_service_runs(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.json"
    write(mapping, {"Heart": "like"}, 9)
    rules = IntakeRules.of(settings_with(event_mapping=str(mapping)))
    following = asyncio.create_task(follow(rules.files, every_s=0.01))
    write(mapping, {"Heart": "rate"}, 8)
    for _ in range(3_000):
        if rules.names.classify("heart").event_type == "rate":
            break
        await asyncio.sleep(0.01)
    following.cancel()
    assert rules.names.classify("heart").event_type == "rate"


@pytest.mark.parametrize("setting", ["event_mapping", "tracking_plan"])
def test_missing_or_wrong_file_stops_the_start_with_its_name(tmp_path: Path, setting: str) -> None:
    wrong = tmp_path / "wrong.json"
    with pytest.raises(ValueError, match=r"wrong\.json"):
        IntakeRules.of(settings_with(**{setting: str(wrong)}))
    wrong.write_text("[")
    with pytest.raises(ValueError, match=r"wrong\.json: it is not JSON"):
        IntakeRules.of(settings_with(**{setting: str(wrong)}))
