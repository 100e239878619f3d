"""The policy that makes a request's slate: that of its placement, or of an experiment's variant.

Policies are compiled once for each revision of a placement. The assignment of visitors to variants
is sticky, since a hash alone decides it: a visitor's position is the first 8 bytes of BLAKE2b (RFC
7693) of salt, a zero byte and the id, as a big-endian number, over 2^64. The share of visitors who
take part is decided by another hash, with `traffic` before it: whoever takes part keeps the variant
when the share grows.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Final, NamedTuple

from slipstream.contracts.experiments import HOLDOUT, NO_EXPERIMENT, Experiment, Variant
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.vocabulary import SHOWN
from slipstream.slates.arranging.policies import CompiledPolicy
from slipstream.slates.slate_request import SlateRequest

# What a slate without a placement keeps to: duplicates are left out, and nothing else is asked.
DEFAULT: Final = PlacementPolicy()
# A caller's list stays as it is where nothing is asked: duplicates of a group, too.
NO_RULES: Final = PlacementPolicy(group_by="")


class PlacementPolicies:
    """The policy of each placement. Used in one event loop."""

    def __init__(self, placement: Callable[[str], Placement | None]) -> None:
        self._placement = placement
        self._default, self._no_rules = CompiledPolicy.of(DEFAULT), CompiledPolicy.of(NO_RULES)
        self._compiled: dict[str, tuple[Placement, CompiledPolicy]] = {}

    def revision(self, name: str) -> int:
        """The revision of a placement; 0 where there is none."""
        placement = self._placement(name) if name else None
        return placement.revision if placement is not None else 0

    def revisions(self, name: str, variant: Variant | None) -> dict[str, int]:
        """The placement that applies to the slates of a variant, with its revision."""
        applied = self.applied(name, variant)
        return {applied: self.revision(applied)}

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
        """The placement that provides the policy for slates of placement `name`.

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


def assigned(experiment: Experiment, user_id: str) -> str:
    """The name of a visitor's variant; `holdout` for one who does not take part.

    Where one is the other's shadow, it is the first, which is shown.
    """
    design = experiment.design
    salt = design.salt or experiment.name
    if position(f"traffic\0{salt}", user_id) >= design.traffic:
        return HOLDOUT
    if design.kind == "shadow":
        return design.variants[0].name
    *bounds, total = accumulate(variant.weight for variant in design.variants)
    place = position(salt, user_id) * total
    passed = sum(place >= bound for bound in bounds)
    return design.variants[passed].name


def position(salt: str, user_id: str) -> float:
    """The position of a visitor, from 0 to below 1, the same for ever."""
    digest = blake2b(f"{salt}\0{user_id}".encode()).digest()
    # The upper 53 bits: a float has no more, and all of 64 could be rounded to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


ExperimentOf = Callable[[str, int], Experiment | None]


class Participation(NamedTuple):
    """The experiment's name, what the slate is recorded as, and the variant that makes it.

    A maker of None is the placement's own policy. Shadows make slates that no visitor sees.
    """

    experiment: str
    variant: str
    maker: Variant | None
    shadows: Sequence[Variant] = ()


NONE: Final = Participation("", NO_EXPERIMENT, None)


def participation(request: SlateRequest, experiment_of: ExperimentOf, now_ms: int) -> Participation:
    """The part that a request takes.

    Only slates that a visitor sees, of a named visitor, are in an experiment.
    """
    if not request.placement or not request.user_id or request.purpose != SHOWN:
        return NONE
    experiment = experiment_of(request.placement, now_ms)
    if experiment is None:
        return NONE
    variant = assigned(experiment, request.user_id)
    if variant == HOLDOUT:
        return Participation(experiment.name, variant, None)
    variants = experiment.design.variants
    if experiment.design.kind == "shadow":
        return Participation(experiment.name, variant, variants[0], variants[1:])
    maker = next(each for each in variants if each.name == variant)
    return Participation(experiment.name, variant, maker)
