"""Traces: an account of each rule that counted, and of the rules that touched each item."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from services.serving.arranging.candidates import Match
from services.serving.arranging.policies import CompiledRule
from slipstream.contracts.placements import BoostRule, CapRule, PinRule, RuleTrace

# Items that a rule kept out of a slate are named up to this number.
_KEPT_OUT: Final = 10


class Outcome(NamedTuple):
    """A slate, as rules are told of it. Candidates are places in the pool, rules those of matches.

    Attributes:
        listed: The slate.
        best: As many candidates as were asked for, in the order that they had without boosts.
        pinned: For each pin its candidate, -1 for none, and why it has none or not its position.
        kept_out: For each cap the candidates that it kept out, best first.
    """

    listed: Sequence[int]
    best: Sequence[int]
    pinned: Mapping[int, tuple[int, str]]
    kept_out: Mapping[int, Sequence[int]]


def traces_of(
    in_force: Sequence[CompiledRule],
    matches: Sequence[Match],
    item_ids: Sequence[str],
    outcome: Outcome,
) -> list[RuleTrace]:
    """A trace of each rule that counted, in their order.

    A boost names the slate's items that it is about; a bury also those that would be in the slate
    by their own scores. A pin names its item. A cap names items that it kept out, as far as they
    are better than the slate's last one.
    """
    traces, number = [], 0
    for compiled in in_force:
        rule = compiled.rule
        trace = RuleTrace(rule=rule.name, action=rule.action)
        traces.append(trace)
        if number == len(matches) or matches[number].compiled is not compiled:
            continue  # it was applied in retrieval
        items, trace.note = _effect(number, matches[number], outcome)
        trace.items = [item_ids[place] for place in items]
        trace.matched = int(np.count_nonzero(matches[number].about))
        if not trace.matched:
            trace.note = "no candidate meets the filter"
        number += 1
    return traces


def _effect(number: int, match: Match, outcome: Outcome) -> tuple[Sequence[int], str]:
    """The candidates that a rule moved, kept out or put in; and why there is no effect."""
    rule, about = match.compiled.rule, match.about
    match rule:
        case BoostRule():
            items = [place for place in outcome.listed if about[place]]
            if rule.factor < 1:
                out = set(outcome.best).difference(outcome.listed)
                buried = [place for place in outcome.best if place in out and about[place]]
                items += buried[:_KEPT_OUT]
            return items, "" if items else "the slate would have none of them anyway"
        case PinRule():
            place, note = outcome.pinned[number]
            if place < 0:
                return [], note
            position = outcome.listed.index(place) + 1
            if position != rule.position:
                note = f"it stands at {position}: {note or 'the slate is shorter'}"
            return [place], note
        case CapRule():
            kept_out = outcome.kept_out[number][:_KEPT_OUT]
            return kept_out, "" if kept_out else "no value has more items than that"
    return [], ""


def touched_by(matches: Sequence[Match], outcome: Outcome) -> list[list[str]]:
    """For each item of a slate the names of the rules that moved it or put it in."""
    names: list[list[str]] = [[] for _ in outcome.listed]
    for number, ((rule, *_), about) in enumerate(matches):
        for each, place in zip(names, outcome.listed, strict=True):
            if isinstance(rule, BoostRule):
                touched = bool(about[place])
            else:
                touched = outcome.pinned.get(number, (-1, ""))[0] == place
            if touched:
                each.append(rule.name)
    return names
