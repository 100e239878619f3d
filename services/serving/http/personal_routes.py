"""The routes of slates for a visitor, of what trends and what is similar, and of the model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from services.serving.http.bodies import (
    ItemSlateQuery,
    PersonalBody,
    PersonalQuery,
    RankRequest,
    SessionEvent,
    SessionRequest,
    SimilarQuery,
    SlateBody,
    items_before,
)
from services.serving.http.preview_bodies import PreviewBody, PreviewResponse
from services.serving.http.responses import (
    ANSWER,
    NOT_FOUND,
    ItemAttributes,
    PathId,
    ServedModel,
    answered,
    json_response,
    parts,
    previewed,
    refuse_unknown_placement,
    require_item,
    slate_body,
    without_history,
)
from slipstream.chassis.access.guard import principal_of, requires
from slipstream.chassis.errors import NotFoundError
from slipstream.chassis.hot_routes import HotRoute
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import Problem
from slipstream.contracts.vocabulary import PREVIEW, RANKED, SHOWN
from slipstream.features.visitor import SEQUENCE_LENGTH, SequenceEvent
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_request import SlateRequest, Step

# Directive of a request that wants its list made now, though it may have been kept (RFC 9111).
_NO_CACHE: Final = b"no-cache"
SERVED: dict[int | str, dict[str, Any]] = {200: {"model": ServedModel}}
PREVIEWED: dict[int | str, dict[str, Any]] = {
    200: {"model": PreviewResponse},
    404: {"model": Problem, "description": "item_not_found"},
    422: {"model": Problem},
}
router = APIRouter(
    prefix="/v1",
    tags=["recommendations"],
    default_response_class=Response,
    route_class=HotRoute,
)


@router.get("/recommendations/{user_id:path}", responses=ANSWER)
@requires(Scope.READ, also=Scope.RECOMMEND)
async def recommendations(
    request: Request, user_id: PathId, query: Annotated[PersonalQuery, Query()]
) -> Response:
    """The `n` best items for this visitor now. An unknown visitor gets trending items.

    While a visitor does nothing, the model's list is kept for up to five minutes. With
    `Cache-Control: no-cache` a new one is made.
    """
    return await answered(request, query, _personal(request, query, user_id=user_id))


@router.post("/recommendations", responses=ANSWER)
@requires(Scope.READ)
async def recommend_by_body(request: Request, body: SlateBody) -> Response:
    """The same, asked by a body, which may hold more: events, boosts, and a context for rules."""
    wanted = _personal(request, body, user_id=body.user_id, events=_sequence(body.events))
    return await answered(request, body, wanted)


@router.post("/previews", responses=PREVIEWED)
@requires(Scope.READ)
async def preview(request: Request, body: PreviewBody) -> Response:
    """A list as `POST /v1/recommendations` would answer it now, for whoever looks into it.

    It has reasons, rules and the stages that it went through, and says of the item `about` where it
    stands or why it fell. It is recorded nowhere: it counts as no impression, and is in no
    experiment. It counts as 30 lists of the key.
    """
    history = None if body.history is None else _sequence(body.history)
    wanted = _personal(
        *(request, body), user_id=body.user_id or "", history=history, events=_sequence(body.events)
    )
    wanted = replace(wanted, explain=True, fresh=True, purpose=PREVIEW)
    return await previewed(request, body, wanted)


@router.get("/similar/{item_id:path}", responses=ANSWER | NOT_FOUND)
@requires(Scope.READ, also=Scope.RECOMMEND)
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
    """The `n` best items for a visitor with these events as the only history."""
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
    refuse_unknown_placement(request, body.placement)
    opened.rates.take(principal_of(request).name)
    slate = await opened.line.answer(_ranking(body))
    attributes = ItemAttributes(opened.catalog, opened.models.current) if body.attributes else None
    return json_response(slate_body(slate, attributes))


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
        "repurchases": model.bundle.repurchases and model.bundle.repurchases.learned,
        **model.bundle.manifest.model_dump(mode="json", include=fields),
    }


def _is_fresh(request: Request) -> bool:
    return any(
        name == b"cache-control" and _NO_CACHE in map(bytes.strip, value.lower().split(b","))
        for name, value in request.scope["headers"]
    )


def _personal(request: Request, query: PersonalQuery, **more: Any) -> SlateRequest:
    """What a query asks for; `more` are further fields of the request."""
    if isinstance(query, PersonalBody):
        more["context"] = query.context
        more["boosts"] = [boost.rule(place) for place, boost in enumerate(query.boosts, 1)]
    return SlateRequest(
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


def _ranking(body: RankRequest) -> SlateRequest:
    """What a body asks for: a slate of all its items, which explores nothing."""
    features = {item.item_id: item.features for item in reversed(body.items)}
    return SlateRequest(
        len(body.items),
        body.user_id,
        given=[item.item_id for item in body.items],
        features={item_id: its for item_id, its in features.items() if its},
        repeats=True,
        placement=body.placement,
        with_rules=body.rules,
        context=body.context,
        filter=body.filter,
        boosts=[boost.rule(place) for place, boost in enumerate(body.boosts, 1)],
        exploration=0.0,
        explain=body.explain,
        purpose=SHOWN if body.shown else RANKED,
    )


def _sequence(events: Sequence[SessionEvent]) -> list[SequenceEvent]:
    """The events in the order of time, of which the last ones of a sequence count."""
    sequence = [
        SequenceEvent(event.item_id, event.event_type, event.timestamp or 0, event.value)
        for event in events
    ]
    if all(event.timestamp is not None for event in events):
        sequence.sort(key=lambda event: event.timestamp)
    return sequence[-SEQUENCE_LENGTH:]
