"""The routes of serving. Bodies are written by orjson straight from the answer:
`RecommendationResponse` documents them.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Path, Query, Request, Response
from pydantic import BaseModel, Field

from services.serving import open_inference
from services.serving.catalog import Catalog
from services.serving.model_holder import Model, ModelHolder
from services.serving.pipeline import MOST_ITEMS, Answer, Pipeline, RecommendationRequest, Step
from slipstream.chassis.errors import NotFoundError, ServiceError
from slipstream.contracts.events import EventType, Id, Millis
from slipstream.contracts.rest import Problem, RecommendationResponse
from slipstream.features.visitor import SEQUENCE_LENGTH, SequenceEvent

MOST_RANKED = 1_000
MOST_EXCLUDED = 500

router = APIRouter(prefix="/v1", tags=["recommendations"])

PathId = Annotated[Id, Path()]
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"model": RecommendationResponse},
    422: {"model": Problem},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}


class AnswerQuery(BaseModel):
    """What every GET that answers a slate takes. One model, since FastAPI takes half as long for it
    as for its fields.
    """

    n: int = Field(10, ge=1, le=MOST_ITEMS, description="how many items")
    attributes: bool = Field(False, description="with each item's attributes from the catalogue")
    exclude: list[Id] = Field(
        default_factory=list, max_length=MOST_EXCLUDED, description="item ids that are not wanted"
    )
    placement: str = Field(
        "", max_length=64, description="where it will be shown; kept with the slate"
    )


class ContextQuery(AnswerQuery):
    """The same for what does not depend on the visitor."""

    user_id: Id | None = Field(None, description="who it is shown to, for attribution")


class SessionEvent(BaseModel):
    """Something that an anonymous visitor did. Without `timestamp`, the order of the list is the
    order of time.
    """

    item_id: Id
    event_type: EventType = "view"
    timestamp: Millis | None = None
    value: float | None = None


class SessionRequest(BaseModel):
    """A session, oldest event first, of which the last 100 count."""

    events: list[SessionEvent] = Field(max_length=1_000)
    n: int = Field(10, ge=1, le=MOST_ITEMS)
    exclude: list[str] = Field(default_factory=list, max_length=MOST_EXCLUDED)
    attributes: bool = False
    placement: str = Field("", max_length=64)
    anonymous_id: Id | None = Field(None, description="who it is shown to, for attribution")


class RankRequest(BaseModel):
    """A list of items to put in order for a visitor."""

    user_id: Id
    items: list[Id] = Field(min_length=1, max_length=MOST_RANKED)
    attributes: bool = False
    placement: str = Field("", max_length=64)


@router.get("/recommendations/{user_id:path}", response_class=Response, responses=ANSWER)
async def recommendations(
    request: Request, user_id: PathId, query: Annotated[AnswerQuery, Query()]
) -> Response:
    """The `n` items that suit this visitor best at this moment; an unknown visitor gets what is
    trending.
    """
    asked = RecommendationRequest(
        query.n, user_id, exclude=frozenset(query.exclude), placement=query.placement
    )
    return _answer(request, await _pipeline(request).recommend(asked), query.attributes)


@router.get("/similar/{item_id:path}", response_class=Response, responses=ANSWER | NOT_FOUND)
async def similar(
    request: Request, item_id: PathId, query: Annotated[ContextQuery, Query()]
) -> Response:
    """The `n` items that go best with this one; 404 for an item that neither the model nor the
    catalogue knows.
    """
    _require_known(request, item_id)
    asked = _without_history(query, (Step.SIMILAR, Step.TRENDING), similar_to=(item_id,))
    return _answer(request, await _pipeline(request).recommend(asked), query.attributes)


@router.get("/trending", response_class=Response, responses=ANSWER)
async def trending(request: Request, query: Annotated[ContextQuery, Query()]) -> Response:
    """The `n` items in most demand at this moment."""
    asked = _without_history(query, (Step.TRENDING,))
    return _answer(request, await _pipeline(request).recommend(asked), query.attributes)


@router.post("/sessions:recommend", response_class=Response, responses=ANSWER)
async def recommend_for_session(request: Request, body: SessionRequest) -> Response:
    """The `n` items that suit a visitor of whom nothing is known but these events."""
    events = [
        SequenceEvent(one.item_id, one.event_type, one.timestamp or 0, one.value)
        for one in body.events
    ]
    if all(one.timestamp is not None for one in body.events):
        events.sort(key=lambda event: event.timestamp)
    asked = RecommendationRequest(
        n=body.n, user_id=body.anonymous_id or "", history=events[-SEQUENCE_LENGTH:], exclude=frozenset(body.exclude),
        placement=body.placement,
    )  # fmt: skip
    return _answer(request, await _pipeline(request).recommend(asked), body.attributes)


@router.post("/rank", response_class=Response, responses=ANSWER)
async def rank(request: Request, body: RankRequest) -> Response:
    """The caller's items, best first for this visitor. What can't be told apart keeps its order, at
    the end, with score 0.
    """
    answer = await _pipeline(request).rank(body.user_id, body.items, body.placement)
    return _answer(request, answer, body.attributes)


@router.get("/model", response_class=Response, responses=NOT_FOUND, tags=["model"])
async def model(request: Request) -> Response:
    """The model in service, and the one before it."""
    holder: ModelHolder = request.app.state.models
    if holder.current is None:
        raise NotFoundError(holder.problem or "no model is loaded yet", code="no_model")
    present, previous = holder.current, holder.previous
    return _json(
        _described(present)
        | {"previous": previous.version if previous else None, "problem": holder.problem}
    )


def _described(model: Model) -> dict[str, Any]:
    manifest = model.bundle.manifest
    return {
        "version": model.version,
        "loaded_at": model.loaded_at,
        "items": len(model.bundle.item_ids),
        "retrievers": list(model.bundle.retrievers),
        "repeats": model.bundle.repeats,
        **manifest.model_dump(
            mode="json", include={"created_at", "profile", "lake_version", "code_commit", "metrics"}
        ),
    }


def _answer(request: Request, answer: Answer, attributes: bool) -> Response:
    items: list[dict[str, Any]] = [
        {"item_id": item_id, "score": score, "source": source}
        for item_id, score, source in answer.items
    ]
    if attributes:
        for item in items:
            item["attributes"] = _attributes(request, item["item_id"])
    return _json(
        {
            "recommendation_id": answer.recommendation_id,
            "user_id": answer.user_id,
            "items": items,
            "answered_by": answer.answered_by,
            "reason": answer.reason,
            "model_version": answer.model_version,
            "history_length": answer.history_length,
        }
    )


def _attributes(request: Request, item_id: str) -> Any:
    """What the catalogue has; for an item that it doesn't know, what the model was trained with."""
    catalog: Catalog = request.app.state.catalog
    known = catalog.attributes(item_id)
    if known is not None:
        return orjson.Fragment(known)
    current: Model | None = request.app.state.models.current
    return ((current.bundle.attributes if current is not None else None) or {}).get(item_id, {})


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _pipeline(request: Request) -> Pipeline:
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


def _without_history(
    query: ContextQuery, steps: Sequence[Step], similar_to: Sequence[str] = ()
) -> RecommendationRequest:
    return RecommendationRequest(
        query.n,
        query.user_id or "",
        history=(),
        similar_to=similar_to,
        exclude=frozenset(query.exclude),
        placement=query.placement,
        steps=steps,
    )


def _require_known(request: Request, item_id: str) -> None:
    current: Model | None = request.app.state.models.current
    if item_id not in request.app.state.catalog and (
        current is None or item_id not in current.bundle.index
    ):
        raise NotFoundError(
            f"neither the model nor the catalogue knows the item {item_id!r}", code="item_not_found"
        )


inference = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
MODEL_PATHS = (
    f"/models/{open_inference.NAME}",
    f"/models/{open_inference.NAME}/versions/{{version}}",
)


@inference.get("")
async def server() -> dict[str, Any]:
    """The server's name, version and extensions of the protocol."""
    return {"name": "slipstream-serving", "version": "1", "extensions": []}


@inference.get("/health/live")
async def live() -> dict[str, bool]:
    """The server takes requests."""
    return {"live": True}


@inference.get("/health/ready", response_class=Response)
async def ready(request: Request) -> Response:
    """Whether a model is loaded; 503 while not, although the recommendation routes answer without
    one.
    """
    loaded = request.app.state.models.current is not None
    return _json({"ready": loaded}, 200 if loaded else 503)


@inference.get(MODEL_PATHS[0], response_class=Response)
@inference.get(MODEL_PATHS[1], response_class=Response)
async def model_metadata(request: Request, version: str = "") -> Response:
    """The model's versions, inputs and outputs."""
    try:
        _require_version(request, version)
    except ServiceError as error:
        return _json({"error": error.detail}, error.status)
    return _json(open_inference.metadata(_version(request)))


@inference.get(MODEL_PATHS[0] + "/ready", response_class=Response)
@inference.get(MODEL_PATHS[1] + "/ready", response_class=Response)
async def model_ready(request: Request, version: str = "") -> Response:
    """Whether the model, or this version of it, is the one in service."""
    present = _version(request)
    loaded = present is not None and version in ("", present)
    return _json({"name": open_inference.NAME, "ready": loaded}, 200 if loaded else 503)


@inference.post(MODEL_PATHS[0] + "/infer", response_class=Response)
@inference.post(MODEL_PATHS[1] + "/infer", response_class=Response)
async def infer(
    request: Request, body: Annotated[dict[str, Any], Body()], version: str = ""
) -> Response:
    """Recommendations for the visitors of a BYTES tensor `user_id`. Visitors that the model can't
    answer for get the same fallbacks as on the other routes. Errors are `{"error": …}`, as the
    protocol has them.
    """
    try:
        _require_version(request, version)
        asked = open_inference.parse(body)
        answers = await asyncio.gather(
            *map(_pipeline(request).recommend, open_inference.requests(asked))
        )
    except ServiceError as error:
        return _json({"error": error.detail}, error.status)
    return _json(open_inference.response(asked, answers, _version(request)))


def _version(request: Request) -> str | None:
    current: Model | None = request.app.state.models.current
    return current.version if current is not None else None


def _require_version(request: Request, version: str) -> None:
    if version and version != _version(request):
        raise NotFoundError(
            f"version {version!r} is not in service; {_version(request) or 'none'} is",
            code="no_model",
        )
