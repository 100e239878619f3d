"""The routes of a shop's lists, of lists for many visitors, of items and of their audiences."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from services.serving.http.bodies import ItemSlateQuery, SlateQuery, items_before
from services.serving.http.list_bodies import (
    AudienceQuery,
    AudienceResponse,
    BatchRequest,
    BatchResponse,
    CartRequest,
    FoundItems,
    PopularQuery,
    RulesBody,
    SearchQuery,
    audience_body,
)
from services.serving.http.responses import (
    ANSWER,
    NOT_FOUND,
    PathId,
    answered,
    json_response,
    parts,
    refuse_unknown_placement,
    require_item,
    slate_body,
    without_history,
)
from services.serving.request.audiences import AudienceRequest
from slipstream.chassis.access.guard import principal_of, requires
from slipstream.chassis.hot_routes import HotRoute
from slipstream.contracts.access import Scope
from slipstream.contracts.placements import RuleMatches
from slipstream.contracts.rest import Problem
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import BATCH
from slipstream.slates.arranging.matches import matches_of
from slipstream.slates.slate_request import SlateRequest, Step

BATCH_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": BatchResponse},
    422: {"model": Problem},
}
_TOGETHER: Final = (Step.BOUGHT_TOGETHER, Step.SIMILAR, Step.TRENDING)

router = APIRouter(
    prefix="/v1",
    tags=["lists"],
    default_response_class=Response,
    route_class=HotRoute,
)


@router.get("/popular", responses=ANSWER)
@requires(Scope.READ)
async def popular(request: Request, query: Annotated[PopularQuery, Query()]) -> Response:
    """The `n` items with the most demand in a window of time.

    What the window's list lacks is filled up with trending items.
    """
    wanted = without_history(query, (Step.POPULAR, Step.TRENDING), window=query.window)
    return await answered(request, query, wanted)


@router.get("/new", responses=ANSWER)
@requires(Scope.READ)
async def new(request: Request, query: Annotated[ItemSlateQuery, Query()]) -> Response:
    """The `n` items that appeared in the catalogue last, newest first.

    The score of an item is the time of its first record since it was last deleted, in ms, or of an
    earlier `published_at` among its attributes.
    """
    wanted = without_history(query, (Step.NEW,))
    return await answered(request, query, wanted)


@router.get("/recently-viewed/{user_id:path}", responses=ANSWER)
@requires(Scope.READ, also=Scope.RECOMMEND)
async def recently_viewed(
    request: Request, user_id: PathId, query: Annotated[SlateQuery, Query()]
) -> Response:
    """The `n` items that this visitor had to do with last, each once, newest first.

    They are of the visitor's last 100 events, and may all be shown now. The score of an item is the
    time of its latest event, in ms. An unknown visitor gets none.
    """
    wanted = SlateRequest(
        query.n,
        user_id,
        exclude=frozenset(query.exclude),
        before=items_before(query.cursor) if query.cursor else (),
        repeats=True,
        placement=query.placement,
        steps=(Step.RECENT,),
        filter=query.filter,
    )
    return await answered(request, query, wanted)


@router.get("/bought-together/{item_id:path}", responses=ANSWER | NOT_FOUND)
@requires(Scope.READ)
async def bought_together(
    request: Request, item_id: PathId, query: Annotated[ItemSlateQuery, Query()]
) -> Response:
    """The `n` items that go into one basket with this one most.

    What baskets lack is filled up with similar items, then with trending ones. 404 for an item that
    neither the model nor the catalogue knows.
    """
    require_item(parts(request), item_id)
    wanted = without_history(query, _TOGETHER, similar_to=(item_id,))
    return await answered(request, query, wanted)


@router.post("/bought-together", responses=ANSWER)
@requires(Scope.READ)
async def bought_with_cart(request: Request, body: CartRequest) -> Response:
    """The same for several items, such as a cart. Unknown items do not count."""
    wanted = without_history(body, _TOGETHER, similar_to=tuple(dict.fromkeys(body.items)))
    return await answered(request, body, wanted)


@router.post("/recommendations:batch", responses=BATCH_ANSWER)
@requires(Scope.READ)
async def batch(request: Request, body: BatchRequest) -> Response:
    """The lists of up to 1,000 visitors, as `/v1/recommendations/{user_id}` answers each.

    They are recorded as lists that were not shown yet: none counts as an impression.
    """
    opened = parts(request)
    refuse_unknown_placement(request, body.placement)
    opened.rates.take(principal_of(request).name, len(body.user_ids))
    exclude = frozenset(body.exclude)
    slates = await opened.line.answer_each(
        [
            SlateRequest(
                body.n,
                user_id,
                exclude=exclude,
                placement=body.placement,
                filter=body.filter,
                purpose=BATCH,
            )
            for user_id in body.user_ids
        ]
    )
    return json_response({"lists": [slate_body(slate) for slate in slates]})


_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": FoundItems},
    422: {"model": Problem},
}


@router.get("/items:search", responses=_FOUND)
@requires(Scope.READ)
async def search_items(request: Request, query: Annotated[SearchQuery, Query()]) -> Response:
    """The items with all words of `q` in title, brand and category, for people who look one up.

    Whole words come before beginnings of words. A change of the catalogue is found within a second.
    """
    opened = parts(request)
    opened.rates.take(principal_of(request).name)
    items = await asyncio.to_thread(opened.search.found, query.q, query.n)
    return json_response({"items": items})


@router.post("/rules:match", responses={200: {"model": RuleMatches}, 422: {"model": Problem}})
@requires(Scope.READ)
async def match_rules(request: Request, body: RulesBody) -> Response:
    """How many items of the catalogue each of these rules is about now.

    A rule that is about none, for a typing error perhaps, says why where that is known.
    """
    opened = parts(request)
    opened.rates.take(principal_of(request).name, max(1, len(body.rules)))
    found = await asyncio.to_thread(matches_of, body.rules, opened.catalog, now_ms())
    return json_response(found.model_dump())


_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": AudienceResponse},
    422: {"model": Problem},
}

audience_router = APIRouter(
    prefix="/v1",
    tags=["audiences"],
    default_response_class=Response,
    route_class=HotRoute,
)


@audience_router.get("/users-for-item/{item_id:path}", responses=_ANSWER | NOT_FOUND)
@requires(Scope.READ)
async def users_for_item(
    request: Request, item_id: PathId, query: Annotated[AudienceQuery, Query()]
) -> Response:
    """The likely audience of this item: `n` of the users who were active last.

    Each active visitor counts as a list of the key. 404 for an item that neither the model nor the
    catalogue knows.
    """
    opened = parts(request)
    require_item(opened, item_id)
    opened.rates.take(principal_of(request).name, query.among)
    wanted = AudienceRequest(item_id, query.n, query.among, query.include_met)
    audience = await opened.line.audiences.of(wanted)
    return json_response(audience_body(item_id, audience))
