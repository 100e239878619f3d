"""The policies of placements as requests use them, compiled once for each revision."""

from collections.abc import Callable
from typing import Final

from services.serving.answers import RecommendationRequest
from services.serving.arranging.policies import CompiledPolicy
from slipstream.contracts.placements import Placement, PlacementPolicy

# What a slate without a placement keeps to: duplicates are left out, and nothing else is asked.
DEFAULT: Final = PlacementPolicy()


class PlacementPolicies:
    """The policy of each placement. Used in one event loop.

    Args:
        placement: Returns the newest state of a placement; None where there is none.
    """

    def __init__(self, placement: Callable[[str], Placement | None]) -> None:
        self._placement = placement
        self._default = CompiledPolicy.of(DEFAULT)
        self._compiled: dict[str, tuple[Placement, CompiledPolicy]] = {}

    def revision(self, name: str) -> int:
        """The revision of a placement; 0 where there is none."""
        placement = self._placement(name) if name else None
        return placement.revision if placement is not None else 0

    def of(self, request: RecommendationRequest) -> CompiledPolicy:
        """The policy of a request: its placement's, with what the request wants otherwise."""
        policy = self._of_placement(request.placement)
        if not request.boosts and request.diversity is None and request.exploration is None:
            return policy
        return policy.asked(request.boosts, request.diversity, request.exploration)

    def _of_placement(self, name: str) -> CompiledPolicy:
        placement = self._placement(name) if name else None
        if placement is None:
            self._compiled.pop(name, None)
            return self._default
        known = self._compiled.get(name)
        if known is None or known[0] is not placement:
            known = self._compiled[name] = placement, CompiledPolicy.of(placement.policy)
        return known[1]
