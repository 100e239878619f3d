"""Slates with rules: steps fill a pool of candidates, and the pool is arranged."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from services.serving.answers import Item, Step
from services.serving.arranging.arrangement import Arrangement
from services.serving.fallback import FallbackChain
from services.serving.filling import Filled, fill
from services.serving.filters.filter_masks import Filter
from services.serving.slate_rules import SlateRules
from services.serving.steps import Candidate, StepRequest
from slipstream.filters.conditions import All

# Most items that the model does not know among the candidates of a slate that explores.
UNPROVEN: Final = 50
# The steps that are asked for a pin which no item of the catalogue and the model meets.
_BY_DEMAND: Final = (Step.TRENDING,)


class ArrangedSlate(NamedTuple):
    """The candidates, the slate that they were arranged to, and how."""

    filled: Filled
    items: list[Candidate]
    how: Arrangement


async def arranged_slate(
    chain: FallbackChain,
    steps: Sequence[Step],
    asked: StepRequest,
    rules: SlateRules,
    n: int,
    seed: str,
) -> ArrangedSlate:
    """Fill a pool until it can be arranged to a whole slate, and arrange it.

    Where no candidate meets a pin, the steps are asked for one that does.

    Args:
        chain: The steps.
        steps: Those that may answer, in this order.
        asked: What the first of them is asked; its `n` is the size of the pool.
        rules: The rules.
        n: Length of the slate.
        seed: The recommendation's id.
    """
    made: list[Arrangement] = []

    def is_enough(filled: Filled) -> bool:
        made.append(rules.arrange(filled, seed))
        return len(made[-1].order) >= n

    filled = await fill(chain, steps, asked, n, is_enough)
    if rules.explores:
        taken = asked.exclude | {item.item_id for item in filled.items}
        unproven = chain.unproven(replace(asked, exclude=taken), UNPROVEN)
        # Of the first step, whose places explore; behind its own items, since they have score 0.
        filled.items += unproven
        filled.tiers += [0] * len(unproven)
        made.append(rules.arrange(filled, seed))
    how = made[-1] if made else rules.arrange(filled, seed)
    if how.needs:
        before = len(filled.items)
        taken = asked.exclude | {item.item_id for item in filled.items}
        for need in how.needs:
            condition = need.condition
            if asked.wanted is not None:
                condition = All((asked.wanted.condition, condition))
            for_pin = replace(asked, n=1, exclude=taken, wanted=Filter(condition, rules.own))
            # Demand alone may know items that neither the catalogue nor the model has.
            able = steps if await chain.may_have(for_pin) else _BY_DEMAND
            found = await fill(chain, able, for_pin, 1, lambda pinned: bool(pinned.items))
            # After all others, so that it stands nowhere but where it is pinned.
            filled.items += [Item(item.item_id, 0.0, item.source) for item in found.items]
            filled.tiers += [len(steps)] * len(found.items)
            taken = taken | {item.item_id for item in found.items}
            filled.failed |= found.failed
            if filled.answered_by is Step.NONE:
                filled.answered_by, filled.version = found.answered_by, found.version
        if len(filled.items) > before:
            how = rules.arrange(filled, seed)
    return ArrangedSlate(filled, [filled.items[place] for place in how.order], how)
