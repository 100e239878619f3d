"""Compiled policies ask retrieval for what the policy says, and know when nothing is arranged."""

from collections.abc import Sequence
from typing import Any

import pytest

from slipstream.contracts.placements import BoostRule, PlacementPolicy
from slipstream.filters.conditions import Constant, Not, Own
from slipstream.filters.expressions import FilterError, parsed
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.catalogue.masks import mask
from tests.unit.slates.arranging.shops import items_of

SHOES = {"name": "shoes", "action": "include", "filter": 'category == "shoes"'}
NO_RED = {"name": "no red", "action": "exclude", "filter": '"red" in colours'}
CATALOGUE = {
    "viewed": {"item_group_id": "g"},
    "its size": {"item_group_id": "g"},
    "bought": {"item_group_id": "h"},
    "its colour": {"item_group_id": "h"},
    "new": {},
}
OWN = {Own.SEEN: ["viewed", "bought"], Own.BOUGHT: ["bought"]}
GROUPS = {"item_group_id"}


def compiled(**policy: Any) -> CompiledPolicy:
    return CompiledPolicy.of(PlacementPolicy.model_validate(policy))


def shown(policy: CompiledPolicy, known: set[str], *, model_repeats: bool = True) -> Sequence[str]:
    """The items of the catalogue that meet the policy's condition."""
    condition = policy.condition(0, {}, known, model_repeats=model_repeats)
    if condition is None:
        return list(CATALOGUE)
    passes = mask(condition, items_of(CATALOGUE, list(CATALOGUE)), OWN)
    return [item_id for item_id, each in zip(CATALOGUE, passes, strict=True) if each]


def test_includes_and_excludes_are_joined() -> None:
    assert compiled().condition(0, {}) is None
    assert compiled(rules=[SHOES]).condition(0, {}) == parsed(SHOES["filter"])
    assert compiled(rules=[SHOES, NO_RED]).condition(0, {}) == parsed(
        'category == "shoes" and not "red" in colours'
    )
    everything = {"name": "x", "action": "exclude"}
    assert compiled(rules=[everything]).condition(0, {}) == Not(Constant(holds=True))
    assert compiled(rules=[{**SHOES, "filter": ""}]).condition(0, {}) is None


def test_only_rules_that_count_now_and_here_are_asked_for() -> None:
    timed = compiled(rules=[{**SHOES, "starts_at": 5, "ends_at": 7, "when": "page == 2"}])
    assert timed.condition(5, {"page": 2}) == timed.condition(6, {"page": 2.0}) is not None
    for now_ms, context in ((4, {"page": 2}), (7, {"page": 2}), (5, {"page": 1}), (5, {})):
        assert timed.condition(now_ms, context) is None
    assert compiled(rules=[{**SHOES, "enabled": False}]).condition(0, {}) is None


def test_new_items_are_those_of_the_days_before_the_request() -> None:
    now, day = 1_790_000_000_000, 86_400_000
    catalogue = {
        "in ms": {"published_at": now - 13 * day},
        "in text": {"published_at": "2026-09-15T10:00:00Z"},
        "old": {"published_at": "2026-08-01"},
        "of no date": {},
    }
    for text in ("published_at > now - 14d", "age_days < 14"):
        policy = compiled(rules=[{"name": "new", "action": "include", "filter": text}])
        condition = policy.condition(now, {})
        assert condition is not None
        passes = mask(condition, items_of(catalogue, list(catalogue)), OWN)
        assert passes.tolist() == [True, True, False, False], text
        assert policy.condition(now // 60_000 * 60_000, {}) == condition, "masks are kept a minute"
        assert policy.condition(now + 60_000, {}) != condition
    signed_up = compiled(rules=[{**SHOES, "when": "signed_up_at > now - 7d"}])
    assert signed_up.condition(now, {"signed_up_at": "2026-09-20"}) is not None
    assert signed_up.condition(now, {"signed_up_at": "2026-09-01"}) is None


def test_a_rules_time_is_iso_8601_or_milliseconds() -> None:
    timed = compiled(rules=[{**SHOES, "starts_at": "1970-01-02", "ends_at": 86_400_001}])
    assert timed.condition(86_400_000, {}) is not None
    assert timed.condition(86_399_999, {}) is None
    with pytest.raises(ValueError, match="neither ISO 8601 nor milliseconds"):
        compiled(rules=[{**SHOES, "starts_at": "tomorrow"}])


@pytest.mark.parametrize(
    ("seen", "bought", "hidden", "repeats"),
    [
        ("model", "model", [], None),
        ("show", "model", [], True),
        ("hide", "model", ["viewed", "its size", "bought", "its colour"], False),
        ("hide", "hide", ["viewed", "its size", "bought", "its colour"], False),
        ("hide", "show", ["viewed", "its size"], True),
        ("show", "hide", ["bought", "its colour"], True),
        ("model", "hide", ["bought", "its colour"], None),
        ("model", "show", [], True),
    ],
)
def test_seen_and_bought_items_are_hidden_with_their_groups(
    seen: str, bought: str, hidden: list[str], repeats: bool | None
) -> None:
    policy = compiled(seen=seen, bought=bought)
    assert policy.repeats() == repeats
    assert shown(policy, GROUPS) == [each for each in CATALOGUE if each not in hidden]
    own = [each for each in hidden if each in OWN[Own.SEEN]]
    assert shown(policy, set()) == [each for each in CATALOGUE if each not in own]


def test_bought_items_may_come_again_though_the_model_repeats_nothing() -> None:
    policy = compiled(bought="show")
    assert shown(policy, GROUPS, model_repeats=False) == ["bought", "its colour", "new"]


def test_a_policy_is_plain_when_nothing_is_arranged() -> None:
    assert compiled(rules=[SHOES, NO_RED], seen="hide").is_plain(0, {})
    assert not compiled().is_plain(0, {}, GROUPS)
    assert compiled(group_by="").is_plain(0, {}, GROUPS)
    for share in ("diversity", "calibration", "exploration"):
        assert not compiled(**{share: 0.1}).is_plain(0, {})
    assert not compiled(fatigue=3).is_plain(0, {})
    pin = {"name": "pin", "action": "pin", "position": 1, "ends_at": 5}
    assert not compiled(rules=[pin]).is_plain(4, {})
    assert compiled(rules=[pin]).is_plain(5, {})


def test_a_policy_looks_at_what_its_rules_and_shares_name() -> None:
    cap = {"name": "cap", "action": "cap", "attribute": "brand", "most": 2}
    assert compiled(rules=[NO_RED, cap], group_by="").attributes() == {"colours", "brand"}
    shares = {"calibration": 0.5, "calibrated_by": "genre"}
    assert compiled(rules=[SHOES], **shares).attributes() == {*GROUPS, "category", "genre"}
    assert compiled(rules=[SHOES], diversity=0.1).attributes() is None


def test_a_policy_looks_back_for_calibration_and_for_rules_on_what_the_visitor_met() -> None:
    again = {"name": "again", "action": "boost", "factor": 2, "filter": "category in seen"}
    assert compiled(rules=[again]).looks_back
    assert compiled(calibration=0.5, calibrated_by="category").looks_back
    assert not compiled(rules=[SHOES, {**SHOES, "name": "all", "filter": ""}]).looks_back


def test_a_request_brings_boosts_and_shares_of_its_own() -> None:
    boost = BoostRule(name="request", action="boost", filter="price < 9", factor=2)
    policy = compiled(diversity=0.5, exploration=0.1)
    asked = policy.asked([boost], diversity=0.0)
    assert [each.rule for each in asked.in_force(0, {})] == [boost]
    assert (asked.policy.diversity, asked.policy.exploration) == (0.0, 0.1)
    assert (policy.policy.diversity, policy.in_force(0, {})) == (0.5, [])
    with_boost = CompiledPolicy.of(policy.policy, [boost])
    assert with_boost.in_force(0, {}) == asked.in_force(0, {})


def test_expressions_that_cannot_be_read_are_refused() -> None:
    for broken in ({"filter": "price <"}, {"when": "a b"}):
        with pytest.raises(FilterError):
            compiled(rules=[{**SHOES, **broken}])
