"""The body of a placement's policy: the contract's, and the checks that records are spared.

Fields that no rule has are refused, since a misspelt one would change what is shown.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Final, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from slipstream.contracts.placements import (
    MOST_RULES,
    BoostRule,
    CapRule,
    ExcludeRule,
    IncludeRule,
    PinRule,
    PlacementPolicy,
    RuleBase,
)
from slipstream.filters.expressions import FilterError, parsed

# The largest policy, as JSON: all of them fit into a service's memory, and into one answer's pages.
MOST_BYTES: Final = 65_536


class RuleBody(RuleBase):
    """The checks of every rule; an error names the rule."""

    @field_validator("filter", "when")
    @classmethod
    def _readable(cls, expression: str, info: ValidationInfo) -> str:
        if expression:
            try:
                parsed(expression, of_context=info.field_name == "when")
            except FilterError as error:
                raise PydanticCustomError(
                    "invalid_filter",
                    "rule {rule}: {words}",
                    {"rule": info.data.get("name", ""), "words": str(error)},
                ) from error
        return expression

    @model_validator(mode="after")
    def _has_a_time(self) -> Self:
        if not _overlap(self, self):
            raise _refused(f"rule {self.name}: it ends before it starts")
        return self


class IncludeBody(IncludeRule, RuleBody, extra="forbid"):
    """A rule that includes."""


class ExcludeBody(ExcludeRule, RuleBody, extra="forbid"):
    """A rule that excludes."""


class BoostBody(BoostRule, RuleBody, extra="forbid"):
    """A rule that boosts or buries."""

    @model_validator(mode="after")
    def _does_what_it_says(self) -> Self:
        if (self.factor > 1) != (self.action == "boost") or self.factor == 1:
            raise _refused(
                f"rule {self.name}: a factor above 1 boosts, one below 1 buries, not {self.factor}"
            )
        return self


class PinBody(PinRule, RuleBody, extra="forbid"):
    """A rule that pins."""


class CapBody(CapRule, RuleBody, extra="forbid"):
    """A rule that caps."""


AnyRuleBody = Annotated[
    IncludeBody | ExcludeBody | BoostBody | PinBody | CapBody, Field(discriminator="action")
]


class PolicyBody(PlacementPolicy, extra="forbid"):
    """The rules of a placement's slates, and how they treat a visitor's past."""

    rules: Annotated[list[AnyRuleBody], Field(max_length=MOST_RULES)] = Field(  # type: ignore[assignment]
        default_factory=list
    )

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        if faults := [*_repeated_names(self.rules), *_contested_positions(self.rules)]:
            raise _refused("; ".join(faults))
        if len(self.model_dump_json().encode()) > MOST_BYTES:
            raise _refused(f"a policy has at most {MOST_BYTES:,} bytes of JSON")
        return self

    def policy(self) -> PlacementPolicy:
        """The policy as records carry it."""
        return PlacementPolicy.model_validate(self.model_dump())


def _repeated_names(rules: list[AnyRuleBody]) -> Iterator[str]:
    seen = set[str]()
    for name in (rule.name for rule in rules):
        if name in seen:
            yield f"two rules have the name {name}"
        seen.add(name)


def _contested_positions(rules: list[AnyRuleBody]) -> Iterator[str]:
    """Pins of one position that hold at one time, both whatever the context is."""
    pins = [rule for rule in rules if isinstance(rule, PinBody) and rule.enabled and not rule.when]
    for one, other in combinations(pins, 2):
        if one.position == other.position and _overlap(one, other):
            yield (
                f"rules {one.name} and {other.name} pin to position {one.position} at the same "
                "time: give one a `when`, or times that do not overlap"
            )


def _overlap(one: RuleBase, other: RuleBase) -> bool:
    """Whether there is a moment at which both rules count."""
    starts = max(rule.starts_at or 0 for rule in (one, other))
    return all(rule.ends_at is None or starts < rule.ends_at for rule in (one, other))


def _refused(words: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_policy", "{words}", {"words": words})
