"""Scenes: all that a slate is made from, as it was or with something else in its place."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.serving.answers import RecommendationRequest
from services.serving.catalog import Catalog
from services.serving.model_holder import Model
from services.serving.replay.bodies import WhatIf
from services.serving.visitor_reading import VisitorReading
from slipstream.contracts.circumstances import DOUBTS, Circumstances
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.rest import SlateRecord

# Source of items that are alike by attributes.
_BY_ATTRIBUTES: Final = "attributes"


@dataclass(frozen=True)
class Scene:
    """All that a slate is made from.

    Attributes:
        recommendation_id: The slate's id, which draws follow from.
        request: The request.
        visitor: The visitor.
        models: The model of each maker.
        catalog: The catalogue.
        placements: The placements by name.
        placement_name: The placement whose rules apply; empty for none.
        circumstances: The record.
    """

    recommendation_id: str
    request: RecommendationRequest
    visitor: VisitorReading
    models: Sequence[Model | None]
    catalog: Catalog
    placements: Mapping[str, Placement]
    placement_name: str
    circumstances: Circumstances

    @property
    def placement(self) -> Placement | None:
        """The placement whose rules apply; None for no rules."""
        return self.placements.get(self.placement_name)


def altered(
    scene: Scene, change: WhatIf, placement: Placement | None, model: Model | None
) -> Scene:
    """The scene with a change.

    Args:
        scene: The scene.
        change: The change.
        placement: The placement whose rules apply then, before the change's own policy.
        model: The model of all makers then; None leaves each its own.
    """
    policy = change.policy or (placement.policy if placement is not None else PlacementPolicy())
    unwanted = set(change.without_rules)
    kept = [rule for rule in policy.rules if rule.name not in unwanted]
    placements = {
        name: each for name, each in scene.placements.items() if name != scene.placement_name
    }
    name = scene.placement_name or "what-if"
    if placement is not None or change.policy is not None:
        placements[name] = Placement(
            name=name,
            revision=placement.revision if placement is not None else 1,
            policy=policy.model_copy(update={"rules": kept}),
            changed_at=0,
        )
    request = scene.request
    boosts = [boost.rule(place) for place, boost in enumerate(change.boosts, 1)]
    request = replace(
        request,
        placement=request.placement or (name if change.policy is not None else ""),
        boosts=[*request.boosts, *boosts],
        diversity=request.diversity if change.diversity is None else change.diversity,
        exploration=request.exploration if change.exploration is None else change.exploration,
        filter=request.filter if change.filter is None else change.filter,
    )
    models = scene.models if model is None else [model] * len(scene.models)
    return replace(
        scene, request=request, placements=placements, placement_name=name, models=models
    )


def reasons_of(circumstances: Circumstances, slate: SlateRecord) -> list[str]:
    """The possible causes of a list that is not the recorded one."""
    reasons = [DOUBTS.get(doubt, doubt) for doubt in circumstances.doubts]
    if any(item.source == _BY_ATTRIBUTES for item in slate.items):
        reasons.append(
            "of an attribute's value that more than 1,000 items have, each process compares those "
            "that it met last"
        )
    return reasons or ["the cause is not known: please report it as a fault"]


def notes_of(
    circumstances: Circumstances, scene: Scene, other: Scene, unknown_steps: Collection[str]
) -> list[str]:
    """What the record does not have for a scene with a change.

    Args:
        circumstances: The record.
        scene: The scene as it was.
        other: The scene with the change.
        unknown_steps: Steps of the online store that were asked and are not in the record.
    """
    notes = [
        f"the list of {step} items of then is not recorded: the slate needed none"
        for step in sorted(unknown_steps)
    ]
    if circumstances.given:
        listed = " and ".join(sorted(circumstances.given))
        notes.append(f"of the {listed} items of then, those are known that the slate had use for")
    before, after = scene.placement, other.placement
    if after is not None and after.policy.fatigue and not (before and before.policy.fatigue):
        notes.append("impressions of then are not recorded, since no rule counted them")
    return notes
