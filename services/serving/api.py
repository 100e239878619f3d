"""The routes of serving."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Path, Query, Request, Response

from services.serving.answer_bodies import ItemAttributes, answer_body, page_body
from services.serving.answers import RecommendationRequest, Step
from services.serving.bodies import (
    ItemSlateQuery,
    PersonalBody,
    PersonalQuery,
    RankRequest,
    SessionEvent,
    SessionRequest,
    SimilarQuery,
    SlateBody,
    SlateQuery,
)
from services.serving.catalog import Catalog
from services.serving.cursors import items_before
from services.serving.explaining import LISTS
from services.serving.key_rates import KeyRates
from services.serving.model_bodies import ServedModel
from services.serving.model_holder import Model, ModelHolder
from services.serving.pipeline import Pipeline
from services.serving.rankings.ranking import RankingRequest
from slipstream.chassis.access.demands import requires
from slipstream.chassis.access.guard import principal_of
from slipstream.chassis.direct_routes import DirectRoute
from slipstream.chassis.errors import NotFoundError
from slipstream.contracts.access import Scope
from slipstream.contracts.events import Id
from slipstream.contracts.rest import Problem, RecommendationResponse
from slipstream.features.visitor import SEQUENCE_LENGTH, SequenceEvent


@dataclass(frozen=True)
class Parts:
    """The parts of the service that its routes use."""

    pipeline: Pipeline
    models: ModelHolder
    catalog: Catalog
    rates: KeyRates = field(default_factory=lambda: KeyRates(0))
    variant_models: Callable[[], list[dict[str, Any]]] = list


def parts(request: Request) -> Parts:
    """The parts that the lifespan has opened."""
    opened: Parts = request.app.state.parts
    return opened


PathId = Annotated[Id, Path()]
# Directive of a request that wants its list made now, though it may have been kept (RFC 9111).
_NO_CACHE: Final = b"no-cache"
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"model": RecommendationResponse},
    422: {"model": Problem},
}
SERVED: dict[int | str, dict[str, Any]] = {200: {"model": ServedModel}}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}

router = APIRouter(
    prefix="/v1",
    tags=["recommendations"],
    default_response_class=Response,
    route_class=DirectRoute,
)


@router.get("/recommendations/{user_id:path}", responses=ANSWER)
@requires(Scope.READ)
async def recommendations(
    request: Request, user_id: PathId, query: Annotated[PersonalQuery, Query()]
) -> Response:
    """The `n` best items for this visitor now. An unknown visitor gets trending items.

    While a visitor does nothing, the model's list is kept for up to five minutes. With
    `Cache-Control: no-cache` it is made anew.
    """
    return await answered(request, query, _personal(request, query, user_id=user_id))


@router.post("/recommendations", responses=ANSWER)
@requires(Scope.READ)
async def recommend_by_body(request: Request, body: SlateBody) -> Response:
    """The same, asked by a body, which may hold more: events, boosts, and a context for rules."""
    wanted = _personal(request, body, user_id=body.user_id, events=_sequence(body.events))
    return await answered(request, body, wanted)


@router.get("/similar/{item_id:path}", responses=ANSWER | NOT_FOUND)
@requires(Scope.READ)
async def similar(
    request: Request, item_id: PathId, query: Annotated[SimilarQuery, Query()]
) -> Response:
    """The `n` items that go best with this one, with `personal` in the visitor's order.

    404 for an item that neither the model nor the catalogue knows.
    """
    require_item(parts(request), item_id)
    wanted = without_history(query, (Step.SIMILAR, Step.TRENDING), similar_to=(item_id,))
    if query.personal and query.user_id is not None:
        wanted = replace(wanted, history=None, repeats=True)
    return await answered(request, query, wanted)


@router.get("/trending", responses=ANSWER)
@requires(Scope.READ)
async def trending(request: Request, query: Annotated[ItemSlateQuery, Query()]) -> Response:
    """The `n` items in most demand now."""
    return await answered(request, query, without_history(query, (Step.TRENDING,)))


@router.post("/sessions:recommend", responses=ANSWER)
@requires(Scope.READ)
async def recommend_for_session(request: Request, body: SessionRequest) -> Response:
    """The `n` best items for a visitor of whom only these events are known."""
    wanted = _personal(
        request, body, user_id=body.anonymous_id or "", history=_sequence(body.events)
    )
    return await answered(request, body, wanted)


@router.post("/rank", responses=ANSWER)
@requires(Scope.READ)
async def rank(request: Request, body: RankRequest) -> Response:
    """The caller's items, best first for this visitor.

    Filter and boosts see the features that come with an item, and so do the placement's rules where
    `rules` asks for them; the model does not. Items that can't be told apart keep their order, at
    the end, with score 0. The list counts as an impression where `shown` says so.
    """
    opened = parts(request)
    opened.rates.take(principal_of(request).name)
    answer = await opened.pipeline.rank(_ranking(body))
    attributes = ItemAttributes(opened.catalog, opened.models.current) if body.attributes else None
    return json_response(answer_body(answer, attributes))


@router.get("/model", responses=SERVED | NOT_FOUND, tags=["model"])
@requires(Scope.READ)
async def model(request: Request) -> Response:
    """The model in service, the one before it, and those of variants of experiments."""
    opened = parts(request)
    holder = opened.models
    if holder.current is None:
        raise NotFoundError(holder.problem or "no model is loaded yet", code="no_model")
    previous = holder.previous.version if holder.previous else None
    return json_response(
        _described(holder.current)
        | {
            "previous": previous,
            "problem": holder.problem,
            "variants": opened.variant_models(),
        }
    )


def _described(model: Model) -> dict[str, Any]:
    fields = {"created_at", "profile", "lake_version", "code_commit", "metrics"}
    return {
        "version": model.version,
        "loaded_at": model.loaded_at,
        "items": len(model.bundle.item_ids),
        "retrievers": list(model.bundle.retrievers),
        "repeats": model.bundle.repeats,
        **model.bundle.manifest.model_dump(mode="json", include=fields),
    }


def _is_fresh(request: Request) -> bool:
    return any(
        name == b"cache-control" and _NO_CACHE in map(bytes.strip, value.lower().split(b","))
        for name, value in request.scope["headers"]
    )


def json_response(content: Any, status: int = 200) -> Response:
    """A JSON answer, written by orjson."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def _personal(request: Request, query: PersonalQuery, **more: Any) -> RecommendationRequest:
    """What a query asks for; `more` are further fields of the request."""
    if isinstance(query, PersonalBody):
        more["context"] = query.context
        more["boosts"] = [boost.rule(place) for place, boost in enumerate(query.boosts, 1)]
    return RecommendationRequest(
        query.n,
        exclude=frozenset(query.exclude),
        before=items_before(query.cursor) if query.cursor else (),
        placement=query.placement,
        fresh=_is_fresh(request),
        filter=query.filter,
        diversity=query.diversity,
        exploration=query.exploration,
        explain=query.explain,
        deadline_s=query.deadline_ms and query.deadline_ms / 1000,
        **more,
    )


def _ranking(body: RankRequest) -> RankingRequest:
    """What a body asks for."""
    features = {item.item_id: item.features for item in reversed(body.items)}
    return RankingRequest(
        body.user_id,
        [item.item_id for item in body.items],
        {item_id: its for item_id, its in features.items() if its},
        body.placement,
        body.rules,
        body.context,
        body.filter,
        [boost.rule(place) for place, boost in enumerate(body.boosts, 1)],
        body.explain,
        body.shown,
    )


def without_history(
    query: ItemSlateQuery, steps: Sequence[Step], similar_to: Sequence[str] = (), window: str = ""
) -> RecommendationRequest:
    """The request for a slate that does not depend on its visitor.

    Args:
        query: The query of the route.
        steps: The steps that may answer.
        similar_to: Items whose neighbours are wanted.
        window: Window of the popular items that are wanted.
    """
    return RecommendationRequest(
        query.n,
        query.user_id or "",
        history=(),
        similar_to=similar_to,
        exclude=frozenset(query.exclude),
        before=items_before(query.cursor) if query.cursor else (),
        placement=query.placement,
        steps=steps,
        filter=query.filter,
        diversity=query.diversity,
        window=window,
    )


async def answered(request: Request, query: SlateQuery, wanted: RecommendationRequest) -> Response:
    """The response to a request for one slate, counted for its key."""
    opened = parts(request)
    opened.rates.take(principal_of(request).name, LISTS if wanted.explain else 1)
    answer = await opened.pipeline.recommend(wanted)
    attributes = ItemAttributes.wanted(query, opened.catalog, opened.models.current)
    return json_response(page_body(answer, wanted, attributes))


def _sequence(events: Sequence[SessionEvent]) -> list[SequenceEvent]:
    """The events in the order of time, of which the last ones of a sequence count."""
    sequence = [
        SequenceEvent(event.item_id, event.event_type, event.timestamp or 0, event.value)
        for event in events
    ]
    if all(event.timestamp is not None for event in events):
        sequence.sort(key=lambda event: event.timestamp)
    return sequence[-SEQUENCE_LENGTH:]


def require_item(opened: Parts, item_id: str) -> None:
    """Raise `NotFoundError` for an item that neither the model nor the catalogue knows."""
    current = opened.models.current
    in_model = current is not None and item_id in current.bundle.index
    if item_id not in opened.catalog and not in_model:
        raise NotFoundError(
            f"neither the model nor the catalogue knows the item {item_id!r}", code="item_not_found"
        )
