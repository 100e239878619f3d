"""The part that a request takes in its placement's experiment."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from services.serving.answers import RecommendationRequest
from services.serving.experiments.assignment import assigned
from slipstream.contracts.experiments import (
    HOLDOUT,
    INTERLEAVED,
    NO_EXPERIMENT,
    Experiment,
    Variant,
)
from slipstream.contracts.vocabulary import SHOWN

ExperimentOf = Callable[[str, int], Experiment | None]


class Participation(NamedTuple):
    """The experiment's name, what the slate is recorded as, and the variants that make it.

    A variant of None is the placement's own policy. Two variants are interleaved. Shadows make
    slates that nobody sees.
    """

    experiment: str
    variant: str
    makers: Sequence[Variant | None]
    shadows: Sequence[Variant] = ()


NONE: Final = Participation("", NO_EXPERIMENT, (None,))


def participation(
    request: RecommendationRequest, experiment_of: ExperimentOf, now_ms: int
) -> Participation:
    """The part that a request takes.

    Only slates that a visitor sees, of a named visitor, are in an experiment.

    Args:
        request: The request.
        experiment_of: Returns the experiment that counts for a placement at a time, or None.
        now_ms: The time.
    """
    if not request.placement or not request.user_id or request.purpose != SHOWN:
        return NONE
    experiment = experiment_of(request.placement, now_ms)
    if experiment is None:
        return NONE
    variant = assigned(experiment, request.user_id)
    if variant == HOLDOUT:
        return Participation(experiment.name, variant, (None,))
    variants = experiment.design.variants
    if experiment.design.kind == "shadow":
        return Participation(experiment.name, variant, variants[:1], variants[1:])
    if variant != INTERLEAVED:
        variants = [each for each in variants if each.name == variant]
    return Participation(experiment.name, variant, variants)
