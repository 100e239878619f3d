"""Policies that are refused before they are kept, and those that are taken."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.monitoring.placements import bodies
from services.monitoring.placements.bodies import PolicyBody
from slipstream.contracts.placements import MOST_RULES, PlacementPolicy


def rule(action: str = "include", name: str = "r", **more: Any) -> dict[str, Any]:
    return {"name": name, "action": action, **more}


def pin(name: str, **more: Any) -> dict[str, Any]:
    return rule("pin", name, **{"position": 3, **more})


def test_a_policy_of_every_kind_of_rule_becomes_the_contracts() -> None:
    rules = [
        rule("include", "a", filter='category == "shoes"'),
        rule("exclude", "b", filter="brand in bought", when='device == "phone"'),
        rule("boost", "c", factor=1.5),
        rule("bury", "d", factor=0.5, starts_at=1, ends_at=2),
        pin("e"),
        rule("cap", "f", attribute="brand", most=2),
    ]
    taken = PolicyBody.model_validate({"rules": rules, "seen": "hide"}).policy()
    assert taken == PlacementPolicy.model_validate({"rules": rules, "seen": "hide"})
    assert type(taken.rules[0]) is type(PlacementPolicy.model_validate({"rules": rules}).rules[0])


@pytest.mark.parametrize(
    ("policy", "place", "words"),
    [
        ({"rules": [rule(filter="price <")]}, ("filter",), "rule r: invalid syntax (at"),
        ({"rules": [rule(filter="x" * 2_001)]}, ("filter",), "2000 characters"),
        ({"rules": [rule(when="device ==")]}, ("when",), "rule r: invalid syntax (at position 9)"),
        ({"rules": [rule(when="a and b in seen")]}, ("when",), "seen (at position 11)"),
        ({"rules": [rule(when="b not in bought")]}, ("when",), "bought (at position 9)"),
        ({"rules": [rule(filter="\ud800")]}, ("filter",), "odd characters"),
        ({"rules": [rule(starts_at=5, ends_at=5)]}, (), "rule r: it ends before it starts"),
        ({"rules": [rule("boost", factor=0.5)]}, (), "rule r: a factor above 1 boosts"),
        ({"rules": [rule("bury", factor=1)]}, (), "rule r: a factor above 1 boosts"),
        ({"rules": [rule("fly")]}, (), "'include', 'exclude'"),
        ({"rules": [rule(enabeld=False)]}, ("enabeld",), "Extra inputs are not permitted"),
        ({"rules": [rule("pin", position=101)]}, ("position",), "100"),
        ({"rules": [rule(), rule("exclude")]}, None, "two rules have the name r"),
        ({"rules": [rule(name=f"r{n}") for n in range(MOST_RULES + 1)]}, None, "at most 100"),
        ({"sen": "hide"}, None, "Extra inputs are not permitted"),
        ({"diversity": float("nan")}, None, "finite"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_rule_field_and_position(
    policy: dict[str, Any], place: tuple[str, ...] | None, words: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        PolicyBody.model_validate(policy)
    (error,) = refused.value.errors()
    assert words in error["msg"]
    if place is not None:  # behind the rule's number, and its action
        assert error["loc"][:2] == ("rules", 0) and error["loc"][3:] == place


@pytest.mark.parametrize(
    "other",
    [
        pin("b", position=4),
        pin("b", when='device == "phone"'),
        pin("b", enabled=False),
        pin("b", starts_at=20),
        pin("b", ends_at=10),
    ],
)
def test_a_position_may_be_pinned_twice_where_only_one_holds(other: dict[str, Any]) -> None:
    PolicyBody.model_validate({"rules": [pin("a", starts_at=10, ends_at=20), other]})


times = st.none() | st.integers(0, 6)


@given(times, times, times, times)
def test_pins_of_one_position_must_not_overlap(
    one_start: int | None, one_end: int | None, other_start: int | None, other_end: int | None
) -> None:
    one = pin("a", starts_at=one_start, ends_at=one_end)
    other = pin("b", starts_at=other_start, ends_at=other_end)

    def moments(start: int | None, end: int | None) -> set[int]:
        return set(range(start or 0, 9 if end is None else end))

    empty = not moments(one_start, one_end) or not moments(other_start, other_end)
    shared = moments(one_start, one_end) & moments(other_start, other_end)
    if empty or shared:
        with pytest.raises(ValidationError, match=r"it ends before|at the same time"):
            PolicyBody.model_validate({"rules": [one, other]})
    else:
        PolicyBody.model_validate({"rules": [one, other]})


def test_a_policy_that_is_too_large_is_refused() -> None:
    long = "item_id in [" + ", ".join(f'"{n:05}"' for n in range(190)) + "]"
    rules = [rule(name=f"r{n}", filter=long) for n in range(bodies.MOST_BYTES // len(long) + 1)]
    with pytest.raises(ValidationError, match="at most 65,536 bytes"):
        PolicyBody.model_validate({"rules": rules})
    assert PolicyBody.model_validate({"rules": rules[:20]}).policy().rules[19].filter == long


def test_the_pages_example_is_taken() -> None:
    page = (Path(__file__).parents[4] / "docs" / "placements.md").read_text("utf-8")
    example = page.partition("```json\n")[2].partition("```")[0]
    taken = PolicyBody.model_validate_json(example).policy()
    kinds = {"include", "exclude", "boost", "bury", "pin", "cap"}
    assert {each.action for each in taken.rules} == kinds
