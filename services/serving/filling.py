"""The filling of a slate by the steps of the fallback chain, one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from services.serving.answers import Item, Step
from services.serving.fallback import FallbackChain
from services.serving.steps import Candidate, StepRequest


@dataclass(slots=True)
class Filled:
    """The items of the steps so far.

    `tiers` has the place of each item's step in the chain. `answered_by` is the step that gave the
    first items, and `version` its model. `reasons` say why a step had none, or not enough. `failed`
    tells that the model, or a part of it, raised.
    """

    items: list[Candidate] = field(default_factory=list)
    tiers: list[int] = field(default_factory=list)
    answered_by: Step = Step.NONE
    version: str | None = None
    reasons: list[str] = field(default_factory=list)
    failed: bool = False


async def fill(
    chain: FallbackChain,
    steps: Sequence[Step],
    asked: StepRequest,
    n: int,
    is_enough: Callable[[Filled], bool],
) -> Filled:
    """Run the steps until there are enough items.

    Args:
        chain: The steps.
        steps: Those that may answer, in this order.
        asked: What the first of them is asked; its `n` is the most items that all are asked for.
        n: Length of the slate.
        is_enough: Says whether no further step is needed.

    Returns:
        The items, each once. Those of later steps have score 0.
    """
    filled = Filled()
    taken: set[str] = set()
    for tier, step in enumerate(steps):
        if taken:
            rest = asked.n - len(filled.items)
            if rest <= 0:  # as many as were asked for, and the rules leave too few of them
                if step is Step.SIMILAR:
                    continue  # what it knows is among the model's candidates
                rest = asked.n
            step_request = replace(asked, n=rest, exclude=asked.exclude | taken)
        else:
            step_request = asked
        added, reason, version, failed = await chain.run(step, step_request)
        filled.failed |= failed
        if reason:
            filled.reasons.append(reason)
        if added:
            if filled.items:
                had = len(filled.items)
                present = f"{filled.answered_by} had {had} of {n} items"
                if had >= n:
                    present = f"rules leave under {n} of the {filled.answered_by}'s {had} items"
                filled.reasons.append(f"{present}; {len(added)} more are {step}")
                added = [Item(item.item_id, 0.0, item.source) for item in added]
            else:
                filled.answered_by, filled.version = step, version
            filled.items += added
            filled.tiers += [tier] * len(added)
            if is_enough(filled):
                break
            taken.update(item.item_id for item in added)
    return filled
