"""The slate that is made for a request, and what its making asks for on the way.

A making is a generator: it yields what it needs from outside, gets it or an error, and returns its
slate. So it runs with servers and threads behind it, or with a record of what they gave.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from slipstream.contracts.experiments import NO_EXPERIMENT
from slipstream.contracts.placements import RuleTrace
from slipstream.contracts.reasons import SlateReasons
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import ListQuestion, Recommendation
from slipstream.slates.catalogue.masks import Filter
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_plan import Candidate, SlatePlan
from slipstream.slates.slate_request import Step


class ListAsked(NamedTuple):
    """A question to the kernels of a bundle. The answer is a list of recommendations."""

    bundle: Bundle
    question: ListQuestion


class DemandAsked(NamedTuple):
    """A list of demand: of what trends, or of a window of popular items. The answer is `Demand`."""

    step: Step
    model: Model | None
    window: str


class Demand(NamedTuple):
    """Items in demand with their weights, highest first, and why there may be none."""

    entries: Sequence[tuple[str, float]]
    why_none: str


class MaskAsked(NamedTuple):
    """Whether each item of a model's space passes a filter. The answer is a mask."""

    model: Model
    wanted: Filter


class WorkAsked(NamedTuple):
    """Work that takes long. The answer is the function's result."""

    work: Callable[[], Any]


Asked = ListAsked | DemandAsked | MaskAsked | WorkAsked


@dataclass(slots=True)
class MadeSlate:
    """A slate, and how it came about.

    Attributes:
        plan: The plan that it was made by.
        items: The items; while it is made, the candidates so far.
        tiers: The place of each candidate's step among the steps.
        answered_by: The step that gave the first items.
        model_version: The version of the model that did.
        remarks: Why a step had no items, or not enough, and which later ones filled the slate.
        failed: Whether the model, or a part of it, raised.
        listed: The model's own list, where it made one without a filter and no part failed.
        took: The stages, each with the seconds that it took.
        failures: The parts that failed, each with its error.
        rules: Accounts of the rules of the placement's revision.
        touched: For each item the names of the rules that moved it; empty for none.
        propensities: The probability with which each item stands where it stands; empty where
            nothing was drawn.
        reasons: Reasons of the items, which are measured by leaving out parts of the history.
        experiment: The placement's experiment; empty without one.
        variant: The visitor's variant.
        teams: The variant that each item of an interleaved slate comes from.
        substituted: Why the champion answered for a variant's model; empty where it did not.
        history_length: Number of the visitor's events.
        placement_revision: The revision of the rules; 0 for none.
    """

    plan: SlatePlan
    items: list[Candidate] = field(default_factory=list)
    tiers: list[int] = field(default_factory=list)
    answered_by: Step = Step.NONE
    model_version: str | None = None
    remarks: list[str] = field(default_factory=list)
    failed: bool = False
    listed: Sequence[Recommendation] | None = None
    took: list[tuple[str, float]] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    rules: Sequence[RuleTrace] = ()
    touched: Sequence[Sequence[str]] = ()
    propensities: Sequence[float] = ()
    reasons: SlateReasons | None = None
    experiment: str = ""
    variant: str = NO_EXPERIMENT
    teams: Sequence[str] = ()
    substituted: str = ""
    history_length: int = 0
    placement_revision: int = 0

    @property
    def recommendation_id(self) -> str:
        """The id that later interactions name."""
        return self.plan.seed

    @property
    def user_id(self) -> str:
        """The visitor; empty for nobody in particular."""
        return self.plan.request.user_id

    @property
    def reason(self) -> str:
        """The remarks as one text."""
        return "; ".join(filter(None, self.remarks))


Making = Generator[Asked, Any, MadeSlate]
