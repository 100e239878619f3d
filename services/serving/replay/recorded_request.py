"""The request, the visitor and the lists of the online store, from a slate's circumstances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.serving.answers import RecommendationRequest, Step
from services.serving.catalog import Catalog
from services.serving.fallback import FallbackChain
from services.serving.gathered_lists import GatheredLists
from services.serving.kept_lists import KeptLists
from services.serving.lists.selection import selected
from services.serving.metrics import ServingMetrics
from services.serving.steps import OF_STORE, StepRequest, StepResult
from services.serving.store_reads import ActiveVisitor, StoreReads, TrendingItem, UserState
from services.serving.visitor_reading import VisitorReading
from slipstream.contracts.circumstances import Circumstances, Entry
from slipstream.contracts.rest import SlateRecord
from slipstream.features.visitor import SequenceEvent, VisitorState
from slipstream.stores.online import StoreUnavailableError


def recorded_request(slate: SlateRecord, circumstances: Circumstances) -> RecommendationRequest:
    """The request that a slate answered, with all that its list depends on."""
    return RecommendationRequest(
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


class RecordedChain(FallbackChain):
    """The steps, of which those of the online store give what they gave then.

    Args:
        catalog: The catalogue of then.
        measured: Metrics, which nobody reads.
        lists: Calls of the model's kernels.
        given: Items of each step of the online store.

    Attributes:
        unknown_steps: Steps that were asked and are not in the record.
    """

    def __init__(
        self,
        catalog: Catalog,
        measured: ServingMetrics,
        lists: GatheredLists,
        given: Mapping[str, Sequence[Entry]],
    ) -> None:
        super().__init__(
            catalog, measured, StoreReads(_NoStore(), measured, 1.0), lists, KeptLists(0), 1.0
        )
        self._items, self._given = catalog, given
        self.unknown_steps = set[Step]()

    async def run(self, step: Step, request: StepRequest) -> StepResult:
        """The items of one step, and the reason where it has none."""
        if step not in OF_STORE:
            return await super().run(step, request)
        entries = self._given.get(step)
        if entries is None:  # the model's popular items stand in
            self.unknown_steps.add(step)
            return await super().run(step, request)
        return StepResult(selected(self._items, request, entries, step))


class _NoStore:
    """The online store of then, which nobody can ask any more."""

    def node(self, user_id: str | None = None) -> str:  # noqa: ARG002
        return ""

    async def visitor(self, user_id: str) -> VisitorState | None:  # noqa: ARG002
        raise StoreUnavailableError("the online store keeps no former states")

    async def trending(
        self,
        n: int,  # noqa: ARG002
        window: str = "",  # noqa: ARG002
    ) -> Sequence[TrendingItem]:
        raise StoreUnavailableError("the online store keeps no former lists")

    async def active_visitors(self, n: int) -> Sequence[ActiveVisitor]:  # noqa: ARG002
        raise StoreUnavailableError("the online store keeps no former lists")

    async def users(self, visitor_ids: Sequence[str]) -> Mapping[str, UserState]:  # noqa: ARG002
        raise StoreUnavailableError("the online store keeps no former states")
