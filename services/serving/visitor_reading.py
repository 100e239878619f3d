"""The reading of a visitor: the history that a slate is made from, and the features beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.serving.answers import RecommendationRequest
from services.serving.deadlines import Budget
from services.serving.metrics import ServingMetrics
from services.serving.store_reads import StoreReads
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.features.fatigue import fruitless_impressions
from slipstream.features.views import RECOMMENDER, VISITOR
from slipstream.features.visitor import (
    SEQUENCE_LENGTH,
    SequenceEvent,
    VisitorState,
    visitor_features,
)
from slipstream.stores.online import StoreUnavailableError

# The features of a visitor that a slate is recorded with.
_RECORDED = RECOMMENDER.of(VISITOR)


@dataclass(slots=True)
class VisitorReading:
    """A visitor's history and features. `problem` says why there is no history, or only a part.

    `state` is all that the online store knows; None where it knows nothing, or was not asked.
    """

    history: Sequence[SequenceEvent] = ()
    features: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    state: VisitorState | None = None

    def fruitless(self, now_ms: int) -> Mapping[str, int]:
        """The number of impressions without a response of each item, within a day."""
        return fruitless_impressions(self.state, now_ms, DAY_MS)


async def read_visitor(
    request: RecommendationRequest, store: StoreReads, budget: Budget, measured: ServingMetrics
) -> VisitorReading:
    """The visitor of a request, in one round trip to the online store.

    Args:
        request: The request.
        store: Reads of the online store.
        budget: The time that the request may wait for it.
        measured: Metrics.

    Returns:
        The history, with the request's own events at its end.
    """
    if request.history is not None:
        problem = "" if request.history else "the history is empty"
        return VisitorReading(request.history, problem=problem)
    if not request.user_id:
        return VisitorReading(request.events, problem="no visitor is named")
    with measured.stage("features"):
        try:
            state = await store.visitor(request.user_id, budget)
        except StoreUnavailableError:
            measured.degraded.labels("online_store").inc()
            return VisitorReading(
                request.events,
                problem="the online store does not answer, so the visitor's history is not known",
            )
        return VisitorReading(
            _joined(state, request.events),
            _features(state, measured),
            _problem(state, request),
            state,
        )


def _joined(state: VisitorState | None, events: Sequence[SequenceEvent]) -> Sequence[SequenceEvent]:
    stored = state.sequence if state is not None else ()
    return [*stored, *events][-SEQUENCE_LENGTH:] if events else stored


def _features(state: VisitorState | None, measured: ServingMetrics) -> dict[str, float]:
    try:
        return visitor_features(state, now_ms(), _RECORDED)
    except Exception as error:  # they are recorded, and no answer needs them
        measured.failed("features", error)
        return {}


def _problem(state: VisitorState | None, request: RecommendationRequest) -> str:
    if request.events or (state is not None and state.sequence):
        return ""
    return (
        "the visitor is not known"
        if state is None
        else "the visitor has done nothing with items yet"
    )
