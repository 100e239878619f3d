"""The slate of a request: by one policy, or by those of two variants in one list."""

import asyncio
from collections.abc import Sequence

from services.serving.arranging.policies import CompiledPolicy
from services.serving.catalog import Catalog
from services.serving.experiments.interleaving import interleaved
from services.serving.fallback import FallbackChain
from services.serving.slate_making import MadeSlate, Occasion, made_slate
from slipstream.contracts.experiments import Variant


async def slate_by_policies(
    chain: FallbackChain,
    catalog: Catalog,
    makers: Sequence[Variant | None],
    policies: Sequence[CompiledPolicy],
    occasion: Occasion,
) -> tuple[MadeSlate, Sequence[str]]:
    """The slate, and the variant of each item where two variants made it.

    Args:
        chain: The steps.
        catalog: Attributes of items.
        makers: One variant or two; None for the placement's own policy.
        policies: The policy of each.
        occasion: The request and its circumstances.
    """
    making = [made_slate(chain, catalog, policy, occasion) for policy in policies]
    if len(making) == 1:
        return await making[0], ()
    slates = await asyncio.gather(*making)
    slate, teams = interleaved(slates, occasion.request.n, occasion.seed)
    names = [variant.name if variant is not None else "" for variant in makers]
    return slate, [names[team] for team in teams]
