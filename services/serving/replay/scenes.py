"""Scenes: all that a slate is made from, by its record, or with something else in its place."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from services.serving.metrics import ServingMetrics
from services.serving.replay.bodies import WhatIf
from services.serving.request.store_reads import Budget
from services.serving.request.trending import PopularItems
from slipstream.chassis.request_names import refuse_unknown
from slipstream.contracts.circumstances import DOUBTS, Circumstances, Entry
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.rest import SlateRecord
from slipstream.features.visitor import SequenceEvent
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_plan import Demand, DemandAsked
from slipstream.slates.slate_request import SlateRequest, Step, VisitorReading

# Source of items that are alike by attributes.
_BY_ATTRIBUTES: Final = "attributes"


@dataclass(frozen=True)
class Scene:
    """All that a slate is made from.

    Attributes:
        recommendation_id: The slate's id, which draws follow from.
        request: The request.
        visitor: The visitor.
        model: The model that is asked; None without one.
        catalog: The catalogue.
        placements: The placements by name.
        placement_name: The placement that applies; empty for none.
        circumstances: The record.
    """

    recommendation_id: str
    request: SlateRequest
    visitor: VisitorReading
    model: Model | None
    catalog: Catalog
    placements: Mapping[str, Placement]
    placement_name: str
    circumstances: Circumstances

    @property
    def placement(self) -> Placement | None:
        """The placement that applies; None for no rules."""
        return self.placements.get(self.placement_name)


def altered(
    scene: Scene, change: WhatIf, placement: Placement | None, model: Model | None
) -> Scene:
    """The scene with a change.

    Args:
        placement: The placement that applies after it, before the change's own policy.
        model: The model that is asked then; None keeps the scene's.

    Raises:
        RequestValidationError: The change leaves out a rule that there isn't.
    """
    policy = change.policy or (placement.policy if placement is not None else PlacementPolicy())
    unwanted, named = set(change.without_rules), [rule.name for rule in policy.rules]
    place = ("body", "without_rules")
    refuse_unknown("there is no rule {name}", [(place, name) for name in unwanted], named)
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
    return replace(
        scene,
        request=request,
        placements=placements,
        placement_name=name,
        model=scene.model if model is None else model,
    )


def reasons_of(circumstances: Circumstances, slate: SlateRecord) -> list[str]:
    """The possible causes of a list that is not the recorded one."""
    reasons = [DOUBTS.get(doubt, doubt) for doubt in circumstances.doubts]
    if any(item.source == _BY_ATTRIBUTES for item in slate.items):
        reasons.append(
            "of an attribute's value that more than 1,000 items have, each process compares those "
            "that it met last"
        )
    return reasons or ["the cause is not known: please report it as a bug"]


def notes_of(
    circumstances: Circumstances, scene: Scene, other: Scene, unknown_steps: Collection[str]
) -> list[str]:
    """What the record does not have for a scene with a change.

    Args:
        unknown_steps: Steps of the online store that were asked and are not in the record.
    """
    notes = [
        f"the list of {step} items is not recorded: the slate needed none"
        for step in sorted(unknown_steps)
    ]
    if circumstances.given:
        listed = " and ".join(sorted(circumstances.given))
        notes.append(f"of the {listed} items, only those that the slate used are recorded")
    before, after = scene.placement, other.placement
    if after is not None and after.policy.fatigue and not (before and before.policy.fatigue):
        notes.append("impressions are not recorded, since no rule counted them")
    return notes


def recorded_request(slate: SlateRecord, circumstances: Circumstances) -> SlateRequest:
    """The request that a slate answered, with all that its list depends on."""
    return SlateRequest(
        circumstances.n,
        slate.user_id,
        similar_to=circumstances.similar_to,
        exclude=frozenset(circumstances.exclude),
        before=circumstances.before,
        repeats=circumstances.repeats,
        placement=slate.placement,
        context=circumstances.context,
        steps=[Step(step) for step in circumstances.steps],
        filter=circumstances.filter,
        boosts=circumstances.boosts,
        diversity=circumstances.diversity,
        exploration=circumstances.exploration,
        explain=circumstances.traced,
        purpose=slate.purpose,
        window=circumstances.window,
    )


@dataclass(slots=True)
class RecordedVisitor(VisitorReading):
    """A visitor with the impressions without a response as they were counted."""

    counted: Mapping[str, int] = field(default_factory=dict)

    def fruitless(self, now_ms: int) -> Mapping[str, int]:  # noqa: ARG002
        """The number of impressions without a response of each item, of the slate's moment."""
        return self.counted


def recorded_visitor(circumstances: Circumstances) -> RecordedVisitor:
    """The visitor as serving knew them."""
    return RecordedVisitor(
        [SequenceEvent(*event) for event in circumstances.history.events()],
        problem=circumstances.no_history,
        counted=circumstances.fatigue,
    )


class RecordedDemand:
    """The lists of demand that a slate's record has.

    Args:
        given: Items of each step of the online store.
        measured: Metrics, which are not read.

    Attributes:
        unknown_steps: Steps that were asked and are not in the record.
    """

    def __init__(self, given: Mapping[str, Sequence[Entry]], measured: ServingMetrics) -> None:
        self._given, self._popular = given, PopularItems(measured)
        self.unknown_steps = set[Step]()

    async def demand(self, asked: DemandAsked, budget: Budget) -> Demand:  # noqa: ARG002
        """The requested list; the model's popular items for a trending one."""
        entries = self._given.get(asked.step)
        if entries is not None:
            return Demand(entries, "")
        self.unknown_steps.add(asked.step)
        if asked.window:
            return Demand((), "the online store keeps no former lists")
        return Demand(self._popular.by(asked.model), "")
