"""The ranking of a caller's items: by the steps, then by filter, boosts and a placement's rules."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from typing import Any, Final

from services.serving.answers import Item, RecommendationRequest, Step
from services.serving.arranging.arrangement import Arrangement
from services.serving.arranging.policies import CompiledPolicy
from services.serving.catalog import Catalog
from services.serving.deadlines import Budget
from services.serving.fallback import FallbackChain
from services.serving.filling import Filled
from services.serving.filters.masks import attributes_of, mask
from services.serving.model_holder import Model
from services.serving.placement_policies import PlacementPolicies
from services.serving.rankings.given_items import GivenItems
from services.serving.slate_making import MadeSlate
from services.serving.slate_rules import AttributeSource, SlateRules
from services.serving.steps import StepRequest
from services.serving.visitor_reading import VisitorReading
from slipstream.contracts.placements import BoostRule, PlacementPolicy
from slipstream.contracts.times import now_ms

# The caller's list stays as it is where nothing is asked: duplicates of a group, too.
_NO_RULES: Final = PlacementPolicy(group_by="")
# Given features that nothing asks for are named up to this number.
_NAMED: Final = 5
# Items from which a list is arranged beside the event loop, which would stand still for long.
_MANY: Final = 200


@dataclass(frozen=True, slots=True)
class RankingRequest:
    """A request for an order of items.

    Attributes:
        user_id: The visitor.
        items: Ids of the items; each counts once.
        features: What the caller says of items, by id; it counts instead of the catalogue's
            attributes of the same names.
        placement: The place on the page that the list is for.
        with_rules: Whether the placement's rules apply.
        context: Fields of the request that rules may ask for.
        filter: Expression that every item must meet; empty for all.
        boosts: Boosts beside those of the placement.
        explain: Whether rules give an account of themselves.
        shown: Whether the visitor sees the list.
    """

    user_id: str
    items: Sequence[str]
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    placement: str = ""
    with_rules: bool = False
    context: Mapping[str, Any] = field(default_factory=dict)
    filter: str = ""
    boosts: Sequence[BoostRule] = ()
    explain: bool = False
    shown: bool = False


class Rankings:
    """The rankings. Used in one event loop.

    Args:
        chain: Orders items by model or demand.
        catalog: Attributes of items.
        policies: Policies of placements.
    """

    def __init__(self, chain: FallbackChain, catalog: Catalog, policies: PlacementPolicies) -> None:
        self._chain, self._catalog, self._policies = chain, catalog, policies
        self._no_rules = CompiledPolicy.of(_NO_RULES)

    async def ranked(
        self,
        request: RankingRequest,
        visitor: VisitorReading,
        model: Model | None,
        budget: Budget,
        seed: str,
    ) -> MadeSlate:
        """The items, best first, without those that the filter or the rules leave out.

        Those that neither model nor demand knows stand last, with score 0: in the given order, as
        far as boosts do not move them.

        Args:
            request: The request.
            visitor: The visitor.
            model: The model in service.
            budget: The time that is left to wait for the online store.
            seed: The id of the answer.
        """
        given = list(dict.fromkeys(request.items))
        asked = StepRequest(
            len(given), model, visitor.history, visitor.problem, (), frozenset(), None, budget
        )
        answered_by, (found, reason, version, _) = await self._chain.rank(asked, given)
        placed = {item.item_id for item in found}
        # Boosts multiply: the scores of items that nobody knows are all the same, and not 0.
        rest = [Item(item_id, 1.0, Step.NONE) for item_id in given if item_id not in placed]
        filled = Filled([*found, *rest], [0] * len(found) + [1] * len(rest), answered_by, version)
        filled.reasons += [reason, "" if found else "none of the items is known"]
        arrange = partial(
            self._arrange, request, self._policy(request), visitor, model, filled, seed
        )
        how = await asyncio.to_thread(arrange) if len(given) > _MANY else arrange()
        items = filled.items if how is None else [filled.items[place] for place in how.order]
        if left_out := len(given) - len(items):
            filled.reasons.append(f"{left_out} items are left out by the filter or the rules")
        return MadeSlate(
            asked,
            [
                Item(each.item_id, 0.0 if each.source is Step.NONE else each.score, each.source)
                for each in items
            ],
            answered_by,
            version,
            filled.reasons,
            how.traces if how is not None else (),
            how.touched if how is not None else (),
        )

    def _policy(self, request: RankingRequest) -> CompiledPolicy:
        if request.with_rules:
            return self._policies.of(_as_slate(request))
        return self._no_rules.asked(request.boosts)

    def _arrange(
        self,
        request: RankingRequest,
        policy: CompiledPolicy,
        visitor: VisitorReading,
        model: Model | None,
        filled: Filled,
        seed: str,
    ) -> Arrangement | None:
        """Leave out what does not pass, and arrange the rest; None for the order as it is."""
        slate, names = _as_slate(request), policy.attributes()
        if names is not None and slate.condition is not None:
            names |= attributes_of(slate.condition)
        filled.reasons.append(_unused(request.features, names))

        ids = [item.item_id for item in filled.items]
        both = list(dict.fromkeys([*ids, *(event.item_id for event in visitor.history)]))
        source: AttributeSource = (
            GivenItems(self._catalog, request.features, both, names)
            if request.features
            else self._catalog
        )
        rules = SlateRules(policy, slate, visitor, model, source, now_ms())
        if rules.wanted is not None:
            condition, own = rules.wanted
            passing = mask(condition, source.listed(both), own)[: len(ids)].tolist()
            filled.items = list(compress(filled.items, passing))
            filled.tiers = list(compress(filled.tiers, passing))
            known = source.columns
            missing = sorted(name for name in attributes_of(condition) if name not in known)
            if missing:
                filled.reasons.append(f"no item has an attribute {', '.join(missing)}")
        return None if rules.is_plain else rules.arrange(filled, seed)


def _as_slate(request: RankingRequest) -> RecommendationRequest:
    """The request as one for a slate of all its items, which explores nothing."""
    return RecommendationRequest(
        len(request.items),
        request.user_id,
        repeats=True,
        placement=request.placement,
        context=request.context,
        filter=request.filter,
        boosts=request.boosts,
        exploration=0.0,
        explain=request.explain,
    )


def _unused(features: Mapping[str, Mapping[str, Any]], names: Collection[str] | None) -> str:
    """A remark on features that nothing asks for; empty where there are none."""
    given = set[str]().union(*features.values())
    unused = sorted(given.difference(names)) if names is not None else []
    if not unused:
        return ""
    return f"no filter, boost or rule asks for the given {', '.join(unused[:_NAMED])}"
