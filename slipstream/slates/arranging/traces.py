"""Traces: an account of each rule that counted, and of the rules that touched each item."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from slipstream.contracts.placements import BoostRule, CapRule, PinRule, RuleTrace
from slipstream.slates.arranging.policies import CompiledRule
from slipstream.slates.arranging.pool import Match

# Items that a rule kept out of a slate are named up to this number.
_KEPT_OUT: Final = 10


class Outcome(NamedTuple):
    """A slate for its trace. Candidates are places in the pool, rules those of matches.

    Attributes:
        best: As many candidates as were requested, in the order that they had without boosts;
            empty where nothing is buried.
        pinned: For each pin its candidate, -1 for none, and why it has none or not its position.
        kept_out: For each cap the candidates that it kept out, best first.
    """

    listed: Sequence[int]
    best: Sequence[int]
    pinned: Mapping[int, tuple[int, str]]
    kept_out: Mapping[int, Sequence[int]]


def touched_by(matches: Sequence[Match], outcome: Outcome) -> list[list[str]]:
    """The names of the rules that moved each item of a slate or put it in."""
    names: dict[int, list[str]] = {place: [] for place in outcome.listed}
    for number, match in enumerate(matches):
        for place in _touched(number, match, outcome):
            names[place].append(match.compiled.rule.name)
    return list(names.values())


def traces_of(
    in_force: Sequence[CompiledRule],
    matches: Sequence[Match],
    item_id: Callable[[int], str],
    outcome: Outcome,
) -> list[RuleTrace]:
    """A trace of each rule that counted, in their order.

    A boost names the slate's items that it is about; a bury also those that would be in the slate
    by their own scores. A pin names its item. A cap names items that it kept out, as far as they
    are better than the slate's last one. `matches` are of the rules that were applied to
    candidates, in the same order.
    """
    traces, number = [], 0
    for compiled in in_force:
        rule, matched, places, note = compiled.rule, None, list[int](), ""
        if number < len(matches) and matches[number].compiled is compiled:
            match = matches[number]
            places, note = _effect(number, match, _touched(number, match, outcome), outcome)
            matched = int(np.count_nonzero(match.about))
            note = note if matched else "no candidate meets the filter"
            number += 1
        items = [item_id(place) for place in places]
        traces.append(
            RuleTrace(rule=rule.name, action=rule.action, matched=matched, items=items, note=note)
        )
    return traces


def _touched(number: int, match: Match, outcome: Outcome) -> list[int]:
    """The items of a slate that a rule moved or put in."""
    if isinstance(match.compiled.rule, BoostRule):
        is_about = match.about.take(outcome.listed).tolist() if outcome.listed else []
        return [place for place, is_it in zip(outcome.listed, is_about, strict=True) if is_it]
    place, _ = outcome.pinned.get(number, (-1, ""))
    return [place] if place >= 0 else []


def _effect(
    number: int, match: Match, touched: list[int], outcome: Outcome
) -> tuple[list[int], str]:
    """The candidates that a rule moved, put in or kept out; and why there is no effect."""
    rule = match.compiled.rule
    match rule:
        case BoostRule():
            items = touched
            if rule.factor < 1:
                out = set(outcome.best).difference(outcome.listed)
                buried = [place for place in outcome.best if place in out and match.about[place]]
                items = touched + buried[:_KEPT_OUT]
            return items, "" if items else "the slate would have none of them anyway"
        case PinRule():
            note = outcome.pinned[number][1]
            position = outcome.listed.index(touched[0]) + 1 if touched else rule.position
            if position != rule.position:
                note = f"it stands at {position}: {note or 'the slate is shorter'}"
            return touched, note
        case CapRule():
            items = list(outcome.kept_out[number][:_KEPT_OUT])
            return items, "" if items else "no value has more items than that"
    return [], ""
