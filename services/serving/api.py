"""The routes of serving.

orjson writes the bodies straight from the answer; `RecommendationResponse` documents them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Path, Query, Request, Response

from services.serving.answers import Answer, Item, RecommendationRequest, Step
from services.serving.bodies import (
    ItemSlateQuery,
    RankRequest,
    SessionRequest,
    SlateBody,
    SlateQuery,
)
from services.serving.catalog import Catalog
from services.serving.model_holder import Model, ModelHolder
from services.serving.pipeline import Pipeline
from slipstream.chassis.access.demands import requires
from slipstream.chassis.direct_routes import DirectRoute
from slipstream.chassis.errors import NotFoundError
from slipstream.contracts.access import Scope
from slipstream.contracts.events import Id
from slipstream.contracts.rest import Problem, RecommendationResponse
from slipstream.features.visitor import SEQUENCE_LENGTH, SequenceEvent
from slipstream.filters.conditions import Condition
from slipstream.filters.expressions import parsed


@dataclass(frozen=True)
class Parts:
    """The parts of the service that its routes use."""

    pipeline: Pipeline
    models: ModelHolder
    catalog: Catalog


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
    request: Request, user_id: PathId, query: Annotated[SlateQuery, Query()]
) -> Response:
    """The `n` best items for this visitor now. An unknown visitor gets trending items.

    While a visitor does nothing, the model's list is kept for up to five minutes. With
    `Cache-Control: no-cache` it is made anew.
    """
    return await _recommended(request, user_id, query)


@router.post("/recommendations", responses=ANSWER)
@requires(Scope.READ)
async def recommend_by_body(request: Request, body: SlateBody) -> Response:
    """The same, asked by a body: addresses with many exclusions are too long for some proxies."""
    return await _recommended(request, body.user_id, body)


async def _recommended(request: Request, user_id: str, query: SlateQuery) -> Response:
    opened = parts(request)
    wanted = RecommendationRequest(
        query.n,
        user_id,
        exclude=frozenset(query.exclude),
        placement=query.placement,
        fresh=_is_fresh(request),
        condition=_condition(query.filter),
    )
    return _slate(opened, await opened.pipeline.recommend(wanted), query.attributes)


@router.get("/similar/{item_id:path}", responses=ANSWER | NOT_FOUND)
@requires(Scope.READ)
async def similar(
    request: Request, item_id: PathId, query: Annotated[ItemSlateQuery, Query()]
) -> Response:
    """The `n` items that go best with this one.

    404 for an item that neither the model nor the catalogue knows.
    """
    opened = parts(request)
    _require_item(opened, item_id)
    wanted = _without_history(query, (Step.SIMILAR, Step.TRENDING), similar_to=(item_id,))
    return _slate(opened, await opened.pipeline.recommend(wanted), query.attributes)


@router.get("/trending", responses=ANSWER)
@requires(Scope.READ)
async def trending(request: Request, query: Annotated[ItemSlateQuery, Query()]) -> Response:
    """The `n` items in most demand now."""
    opened = parts(request)
    wanted = _without_history(query, (Step.TRENDING,))
    return _slate(opened, await opened.pipeline.recommend(wanted), query.attributes)


@router.post("/sessions:recommend", responses=ANSWER)
@requires(Scope.READ)
async def recommend_for_session(request: Request, body: SessionRequest) -> Response:
    """The `n` best items for a visitor of whom only these events are known."""
    opened = parts(request)
    events = [
        SequenceEvent(event.item_id, event.event_type, event.timestamp or 0, event.value)
        for event in body.events
    ]
    if all(event.timestamp is not None for event in body.events):
        events.sort(key=lambda event: event.timestamp)
    wanted = RecommendationRequest(
        n=body.n,
        user_id=body.anonymous_id or "",
        history=events[-SEQUENCE_LENGTH:],
        exclude=frozenset(body.exclude),
        placement=body.placement,
        fresh=_is_fresh(request),
        condition=_condition(body.filter),
    )
    return _slate(opened, await opened.pipeline.recommend(wanted), body.attributes)


@router.post("/rank", responses=ANSWER)
@requires(Scope.READ)
async def rank(request: Request, body: RankRequest) -> Response:
    """The caller's items, best first for this visitor.

    Items that can't be told apart keep their order, at the end, with score 0.
    """
    opened = parts(request)
    answer = await opened.pipeline.rank(body.user_id, body.items, body.placement)
    return _slate(opened, answer, body.attributes)


@router.get("/model", responses=NOT_FOUND, tags=["model"])
@requires(Scope.READ)
async def model(request: Request) -> Response:
    """The model in service, and the one before it."""
    opened = parts(request)
    holder = opened.models
    if holder.current is None:
        raise NotFoundError(holder.problem or "no model is loaded yet", code="no_model")
    previous = holder.previous.version if holder.previous else None
    return json_response(
        _described(holder.current) | {"previous": previous, "problem": holder.problem}
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


def _condition(expression: str) -> Condition | None:
    return parsed(expression) if expression else None


def _is_fresh(request: Request) -> bool:
    return any(
        name == b"cache-control" and _NO_CACHE in map(bytes.strip, value.lower().split(b","))
        for name, value in request.scope["headers"]
    )


def _slate(opened: Parts, answer: Answer, attributes: bool) -> Response:
    return json_response(
        {
            "recommendation_id": answer.recommendation_id,
            "user_id": answer.user_id,
            "items": [_with_attributes(opened, item) for item in answer.items]
            if attributes
            else answer.items,
            "answered_by": answer.answered_by,
            "reason": answer.reason,
            "model_version": answer.model_version,
            "history_length": answer.history_length,
        }
    )


def _with_attributes(opened: Parts, item: Item) -> dict[str, Any]:
    attributes = _attributes(opened, item.item_id)
    return {
        "item_id": item.item_id,
        "score": item.score,
        "source": item.source,
        "attributes": attributes,
    }


def _attributes(opened: Parts, item_id: str) -> Any:
    """An item's attributes, from the catalogue, else from the model's training data."""
    known = opened.catalog.attributes(item_id)
    if known is not None:
        return orjson.Fragment(known)
    current = opened.models.current
    return ((current.bundle.attributes if current is not None else None) or {}).get(item_id, {})


def json_response(content: Any, status: int = 200) -> Response:
    """A JSON answer, written by orjson."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def _without_history(
    query: ItemSlateQuery, steps: Sequence[Step], similar_to: Sequence[str] = ()
) -> RecommendationRequest:
    return RecommendationRequest(
        query.n,
        query.user_id or "",
        history=(),
        similar_to=similar_to,
        exclude=frozenset(query.exclude),
        placement=query.placement,
        steps=steps,
        condition=_condition(query.filter),
    )


def _require_item(opened: Parts, item_id: str) -> None:
    current = opened.models.current
    in_model = current is not None and item_id in current.bundle.index
    if item_id not in opened.catalog and not in_model:
        raise NotFoundError(
            f"neither the model nor the catalogue knows the item {item_id!r}", code="item_not_found"
        )
