"""Placements' policies with parsed expressions: which rules count, and what retrieval is asked.

A rule counts while it is enabled, from `starts_at` until before `ends_at`, and where its `when`
holds in the request's context.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

from slipstream.contracts.placements import (
    BoostRule,
    CapRule,
    ExcludeRule,
    IncludeRule,
    PinRule,
    PlacementPolicy,
    Rule,
)
from slipstream.filters import conditions
from slipstream.filters.conditions import (
    ITEM_ID,
    Condition,
    Constant,
    Not,
    Own,
    SharedWith,
    attributes_of,
    depends_on_visitor,
)
from slipstream.filters.evaluation import holds_in_context
from slipstream.filters.expressions import parsed, tells_time
from slipstream.models.kernels import slates
from slipstream.models.kernels.compiler import prepare

# Rules that apply to candidates, and not in retrieval.
AFTER_RETRIEVAL: Final = (BoostRule, PinRule, CapRule)


class CompiledRule(NamedTuple):
    """A rule, the items that it is about, and where it counts; None for all and everywhere."""

    rule: Rule
    condition: Condition | None
    when: Condition | None

    @classmethod
    def of(cls, rule: Rule) -> Self:
        """A rule with its expressions parsed. Raises FilterError."""
        return cls(
            rule,
            parsed(rule.filter) if rule.filter else None,
            parsed(rule.when) if rule.when else None,
        )

    def counts(self, now_ms: int, context: Mapping[str, Any]) -> bool:
        """Whether the rule counts at this time, in this context."""
        rule = self.rule
        return (
            rule.enabled
            and (rule.starts_at is None or rule.starts_at <= now_ms)
            and (rule.ends_at is None or now_ms < rule.ends_at)
            and (self.when is None or holds_in_context(conditions.at(self.when, now_ms), context))
        )

    def at(self, now_ms: int) -> Self:
        """The rule with its condition as of a time."""
        if self.condition is None or not tells_time(self.rule.filter):
            return self
        return self._replace(condition=conditions.at(self.condition, now_ms))


@dataclass(frozen=True)
class CompiledPolicy:
    """A policy as requests use it. Made once for a placement's revision.

    Attributes:
        policy: The policy's numbers and names.
        rules: All of its rules, then the boosts that a request brought.
    """

    policy: PlacementPolicy
    rules: Sequence[CompiledRule]

    @classmethod
    def of(cls, policy: PlacementPolicy, extra_boosts: Sequence[BoostRule] = ()) -> Self:
        """A policy with its expressions parsed.

        Also loads the kernel, which takes seconds where it was never compiled.

        Raises:
            FilterError: An expression can't be read.
        """
        prepare(slates.fill, slates.FILL)
        return cls(policy, [CompiledRule.of(rule) for rule in [*policy.rules, *extra_boosts]])

    def asked(
        self,
        boosts: Sequence[BoostRule] = (),
        diversity: float | None = None,
        exploration: float | None = None,
    ) -> Self:
        """The policy for one request, which brings further boosts or wants other shares. Boosts
        come on top of the placement's, and into the trace by name. A share of None leaves the
        placement's.

        Raises:
            FilterError: A boost's expression can't be read.
        """
        wanted = {"diversity": diversity, "exploration": exploration}
        changed = {name: value for name, value in wanted.items() if value is not None}
        policy = self.policy.model_copy(update=changed) if changed else self.policy
        return replace(
            self, policy=policy, rules=[*self.rules, *(CompiledRule.of(rule) for rule in boosts)]
        )

    def attributes(self) -> set[str] | None:
        """The attributes that the policy looks at; None for all, which diversity compares."""
        policy = self.policy
        if policy.diversity:
            return None
        names = {policy.group_by, policy.calibrated_by if policy.calibration else ""} - {""}
        for rule, condition, _ in self.rules:
            if condition is not None:
                names |= attributes_of(condition)
            if isinstance(rule, CapRule):
                names.add(rule.attribute)
        return names

    @cached_property
    def looks_back(self) -> bool:
        """Whether the arrangement depends on attributes of items that the visitor has met."""
        return self.policy.calibration > 0 or any(
            condition is not None and depends_on_visitor(condition)
            for _, condition, _ in self.rules
        )

    def in_force(self, now_ms: int, context: Mapping[str, Any]) -> list[CompiledRule]:
        """The rules that count, in the policy's order."""
        return [rule.at(now_ms) for rule in self.rules if rule.counts(now_ms, context)]

    def condition(
        self,
        now_ms: int,
        context: Mapping[str, Any],
        known: Container[str] = (),
        *,
        model_repeats: bool = True,
    ) -> Condition | None:
        """The condition that retrieval holds the items to; None lets all.

        It joins the rules that include and exclude, and hides what the visitor has seen or bought.
        With an item goes its whole group. Bought items that may be shown stay where seen ones are
        hidden. `known` are attributes that items have; groups need theirs among them.
        `model_repeats` tells what `seen: model` follows.
        """
        parts: list[Condition] = []
        for compiled in self.in_force(now_ms, context):
            match compiled.rule:
                case IncludeRule() if compiled.condition is not None:
                    parts.append(compiled.condition)
                case ExcludeRule():
                    about = compiled.condition or Constant(holds=True)
                    parts.append(Not(about))
        seen, bought = self.policy.seen, self.policy.bought
        if seen == "hide" or (seen == "model" and bought == "show" and not model_repeats):
            unseen = Not(self._of_own(Own.SEEN, known))
            shown = bought == "show"
            parts.append(
                conditions.Any((unseen, self._of_own(Own.BOUGHT, known))) if shown else unseen
            )
        elif bought == "hide":
            parts.append(Not(self._of_own(Own.BOUGHT, known)))
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else conditions.All(tuple(parts))

    def _of_own(self, own: Own, known: Container[str]) -> Condition:
        """Whether an item, or one of its group, is the visitor's own."""
        item = SharedWith(ITEM_ID, own)
        if self.policy.group_by not in known:
            return item
        return conditions.Any((item, SharedWith(self.policy.group_by, own)))

    def repeats(self) -> bool | None:
        """Whether retrieval may return items of the history; None leaves it to the model.

        Where bought items are shown, `condition` hides the others.
        """
        if self.policy.bought == "show":
            return True
        return {"show": True, "hide": False, "model": None}[self.policy.seen]

    def learned(self) -> frozenset[Own]:
        """The kinds of a visitor's items of which the model decides when they may come again."""
        fields = {Own.SEEN: self.policy.seen, Own.BOUGHT: self.policy.bought}
        return frozenset(own for own, repeats in fields.items() if repeats == "model")

    def is_plain(self, now_ms: int, context: Mapping[str, Any], known: Container[str] = ()) -> bool:
        """Whether the candidates' own order is the slate already. Arguments as of `condition`."""
        policy = self.policy
        return (
            policy.group_by not in known
            and not (policy.fatigue or policy.diversity or policy.calibration or policy.exploration)
            and not any(
                isinstance(compiled.rule, AFTER_RETRIEVAL)
                for compiled in self.in_force(now_ms, context)
            )
        )
