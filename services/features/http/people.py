"""REST routes about people: who was active last, what is kept of a user, and what was erased."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from services.features.history.people import exported
from services.features.history.receipts import Receipts
from services.features.http.reads import parts
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import ErasureState, Problem
from slipstream.contracts.times import now_ms
from slipstream.stores.lake import CATALOG, LakeUnavailableError
from slipstream.stores.online import StoreUnavailableError

router = APIRouter(tags=["people"])
NO_ERASURE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "no_erasure"}}


class ActiveVisitor(BaseModel):
    """A user, or a visitor who is none, with the time of the newest event in ms."""

    user_id: str
    last_seen: int


class ActiveVisitors(BaseModel):
    """Visitors, the one who was active last first."""

    items: list[ActiveVisitor]


@router.get("/v1/visitors")
@requires(Scope.READ)
async def active_visitors(
    request: Request, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> ActiveVisitors:
    """The visitors who were active last, each once.

    Of `limit` visitors those who are one user by now are given as that user, so that there may be
    fewer.
    """
    reader = parts(request).reader
    try:
        active = await reader.active_visitors(limit)
        users = await reader.users([visitor_id for visitor_id, _ in active])
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from error
    latest: dict[str, int] = {}
    for visitor_id, last_seen in active:
        if visitor_id in users:
            latest.setdefault(users[visitor_id][0], last_seen)
    return ActiveVisitors(
        items=[ActiveVisitor(user_id=name, last_seen=at) for name, at in latest.items()]
    )


@router.get("/v1/users/{user_id}/export", response_class=StreamingResponse)
@requires(Scope.ADMIN)
async def export_user(
    request: Request, user_id: Annotated[str, Path(min_length=1, max_length=256)]
) -> StreamingResponse:
    """What Redis and the lake hold of a user and of the visitors that are this user.

    One JSON object a line. It reads the whole lake, and the catalogue once for each step of links.
    """
    opened = parts(request)
    try:
        state = await opened.reader.visitor(user_id)
        await asyncio.to_thread(opened.lake.version, CATALOG)
    except (LakeUnavailableError, StoreUnavailableError) as error:
        raise UnavailableError(str(error)) from error
    lines = exported(opened.lake, user_id, state)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/v1/erasures/{erasure_id}", responses=NO_ERASURE)
@requires(Scope.READ)
def erasure(
    request: Request, erasure_id: Annotated[str, Path(min_length=1, max_length=64)]
) -> ErasureState:
    """State of an erasure by its id: pending, or done with its time, and what is left to erase.

    It names no person. A new erasure is not found until features has read its request.
    """
    receipts: Receipts = request.app.state.receipts
    try:
        state = receipts.find(erasure_id, now_ms())
    except (LakeUnavailableError, BrokerUnavailableError, StoreUnavailableError) as error:
        raise UnavailableError(str(error)) from error
    if state is None:
        raise NotFoundError(f"no erasure {erasure_id} is known", code="no_erasure")
    return state
