"""The making of one slate by one policy: the steps fill it, and rules arrange it."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from services.serving.answers import Item, RecommendationRequest, Step
from services.serving.arranged_slates import arranged_slate
from services.serving.arranging.policies import CompiledPolicy
from services.serving.catalog import Catalog
from services.serving.deadlines import Budget
from services.serving.fallback import FallbackChain
from services.serving.filling import fill
from services.serving.model_holder import Model
from services.serving.slate_rules import SlateRules
from services.serving.steps import Candidate, StepRequest
from services.serving.visitor_reading import VisitorReading
from slipstream.contracts.placements import RuleTrace

_ITEM: Final = attrgetter("item_id")


class Occasion(NamedTuple):
    """The circumstances of a request, which all of its slates share.

    Attributes:
        request: The request.
        visitor: The visitor as the online store knows them.
        model: The model in service.
        steps: The steps that may answer.
        budget: The time that is left to wait for the online store.
        now_ms: The time, by which rules count.
        seed: The recommendation's id.
        given: Takes the items of steps of the online store; None where nobody records them.
    """

    request: RecommendationRequest
    visitor: VisitorReading
    model: Model | None
    steps: Sequence[Step]
    budget: Budget
    now_ms: int
    seed: str
    given: list[tuple[Step, Sequence[Candidate]]] | None = None


@dataclass(frozen=True, slots=True)
class MadeSlate:
    """A slate, and how it came about.

    `asked` is what the first step was asked. `model` is the model that was asked, and `failed`
    tells that it, or a part of it, raised. The other fields are as in `Answer`.
    """

    asked: StepRequest
    items: Sequence[Item]
    answered_by: Step
    version: str | None
    reasons: Sequence[str]
    rules: Sequence[RuleTrace] = ()
    touched: Sequence[Sequence[str]] = ()
    propensities: Sequence[float] = ()
    model: Model | None = None
    failed: bool = False
    substituted: str = ""


async def made_slate(
    chain: FallbackChain, catalog: Catalog, policy: CompiledPolicy, occasion: Occasion
) -> MadeSlate:
    """The slate of a policy.

    Args:
        chain: The steps.
        catalog: Attributes of items.
        policy: The policy, with what the request wants otherwise.
        occasion: The request and its circumstances.
    """
    request, visitor, model = occasion.request, occasion.visitor, occasion.model
    # The rules of the placement, and exclusions. Each step applies availability itself.
    rules = SlateRules(policy, request, visitor, model, catalog, occasion.now_ms)
    exclude = set(request.exclude)
    exclude.update(request.before, request.similar_to)
    if not _may_repeat(rules.repeats, model):
        exclude.update(map(_ITEM, visitor.history))

    # Candidates, ranking, filtering: each step fills what the steps before it left open.
    asked = StepRequest(
        rules.depth,
        model,
        visitor.history,
        visitor.problem,
        request.similar_to,
        exclude,
        rules.repeats,
        occasion.budget,
        request.fresh,
        rules.wanted,
        request.window,
        occasion.given,
    )
    steps, n, how = occasion.steps, request.n, None
    if rules.is_plain:
        filled = await fill(chain, steps, asked, n, lambda found: len(found.items) >= n)
        items = filled.items
    else:
        filled, items, how = await arranged_slate(chain, steps, asked, rules, n, occasion.seed)
    unknown = chain.unknown(rules.wanted) if rules.wanted is not None else ""
    return MadeSlate(
        asked,
        [Item(each.item_id, each.score, each.source) for each in items],
        filled.answered_by,
        filled.version,
        [unknown, *filled.reasons],
        how.traces if how is not None and request.explain else (),
        how.touched if how is not None else (),
        how.propensities if how is not None and rules.explores else (),
        model,
        filled.failed,
    )


def _may_repeat(repeats: bool | None, model: Model | None) -> bool:
    if repeats is None:
        return model is not None and model.bundle.repeats
    return repeats
