"""The policies of placements as requests use them, compiled once for each revision."""

from collections.abc import Callable, Sequence
from typing import Final

from slipstream.contracts.experiments import Variant
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.slate_request import SlateRequest

# What a slate without a placement keeps to: duplicates are left out, and nothing else is asked.
DEFAULT: Final = PlacementPolicy()
# A caller's list stays as it is where nothing is asked: duplicates of a group, too.
NO_RULES: Final = PlacementPolicy(group_by="")


class PlacementPolicies:
    """The policy of each placement. Used in one event loop.

    Args:
        placement: Returns the newest state of a placement; None where there is none.
    """

    def __init__(self, placement: Callable[[str], Placement | None]) -> None:
        self._placement = placement
        self._default, self._no_rules = CompiledPolicy.of(DEFAULT), CompiledPolicy.of(NO_RULES)
        self._compiled: dict[str, tuple[Placement, CompiledPolicy]] = {}

    def revision(self, name: str) -> int:
        """The revision of a placement; 0 where there is none."""
        placement = self._placement(name) if name else None
        return placement.revision if placement is not None else 0

    def revisions(self, name: str, makers: Sequence[Variant | None]) -> dict[str, int]:
        """The placements whose policies apply to the slates of variants, with their revisions."""
        applied = [self.applied(name, variant) for variant in makers]
        return {each: self.revision(each) for each in applied}

    def of(self, request: SlateRequest, variant: Variant | None = None) -> CompiledPolicy:
        """The policy of a request: its placement's, with what the request wants otherwise.

        Where an experiment's variant differs from the placement, the variant counts; what the
        request wants counts before both.
        """
        policy = (
            self._of_placement(self.applied(request.placement, variant))
            if request.with_rules
            else self._no_rules
        )
        diversity, exploration = request.diversity, request.exploration
        if variant is not None:
            diversity = variant.diversity if diversity is None else diversity
            exploration = variant.exploration if exploration is None else exploration
        if not request.boosts and diversity is None and exploration is None:
            return policy
        return policy.asked(request.boosts, diversity, exploration)

    def applied(self, name: str, variant: Variant | None) -> str:
        """The placement whose policy applies to slates of placement `name`.

        The variant's, unless that was deleted: without any rules an item could be shown that the
        placement excludes.
        """
        if variant is None or self._placement(variant.placement) is None:
            return name
        return variant.placement

    def _of_placement(self, name: str) -> CompiledPolicy:
        placement = self._placement(name) if name else None
        if placement is None:
            self._compiled.pop(name, None)
            return self._default
        known = self._compiled.get(name)
        if known is None or known[0] is not placement:
            known = self._compiled[name] = placement, CompiledPolicy.of(placement.policy)
        return known[1]
