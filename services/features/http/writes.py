"""REST routes of Feast's feature server that write."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from services.features import pushes
from services.features.http.reads import (
    BY_FEAST,
    MOST_PUSH_VALUES,
    PushRequest,
    WriteRequest,
    described,
    parsed,
    parts,
    refused,
)
from services.features.pushes import Frame
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.access.guard import principal_of, requires
from slipstream.chassis.bodies import LARGE_BYTES
from slipstream.chassis.errors import InvalidRequestError, UnavailableError, problem
from slipstream.chassis.hot_routes import HotRoute
from slipstream.chassis.logging import request_id
from slipstream.chassis.request_names import taking_any_name
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import Problem
from slipstream.contracts.times import HOUR_MS, now_ms

router = APIRouter(tags=["feast"], route_class=taking_any_name(BY_FEAST, HotRoute))

# Pushed records that are handed to the broker in one go, in some milliseconds.
_HANDED_OVER: Final = 500
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {400: {"model": Problem}}


@router.post("/push", response_class=Response, **described(PushRequest))
@requires(Scope.WRITE)
async def push(request: Request) -> Response:
    """Push rows into the stream, as Feast's server does.

    Answers 200 when the broker has acknowledged all rows. One refused row refuses all.
    """
    raw = await request.body()
    # Parsed, a large body needs many times its size.
    async with parts(request).pushes.turn(len(raw) > LARGE_BYTES):
        body = parsed(PushRequest, raw, MOST_PUSH_VALUES)
        try:
            return await _publish(request, body.push_source_name, body.df)
        except pushes.UnknownSourceError as error:
            return refused(error, "unknown_push_source", "PushSourceNotFoundException", 422)


@router.post("/write-to-online-store", response_class=Response, **described(WriteRequest))
@requires(Scope.WRITE)
async def write_to_online_store(request: Request) -> Response:
    """Push rows as Feast's SDK does, by `push` as by `write_to_online_store`.

    The feature view's name is the push source: `interactions`, `items` or `users`. An event without
    `event_id` gets one of its contents, since the SDK sends again what was not answered.
    """
    raw = await request.body()
    async with parts(request).pushes.turn(len(raw) > LARGE_BYTES):
        body = parsed(WriteRequest, raw, MOST_PUSH_VALUES)
        view = body.feature_view_name
        if any(view == declared.name for declared in parts(request).registry.views):
            raise InvalidRequestError(
                f"The features of view {view!r} are computed from events and can't be written; "
                f"write the events to a view named {', '.join(pushes.SOURCES)}",
                code="computed_view",
            )
        frame = {name: column for name, column in body.df.items() if name != "created"}
        try:
            return await _publish(request, view, frame, resent=True)
        except pushes.UnknownSourceError as error:
            return refused(error, "unknown_feature_view", "FeatureViewNotFoundException")


@router.post("/materialize", response_class=Response, responses=_REFUSED)
@requires(Scope.WRITE)
async def materialize(_request: Request) -> Response:
    """Refused with the reason: the online store follows the stream by itself."""
    raise _nothing_to_materialize()


@router.post("/materialize-incremental", response_class=Response, responses=_REFUSED)
@requires(Scope.WRITE)
async def materialize_incremental(_request: Request) -> Response:
    """Refused with the reason: the online store follows the stream by itself."""
    raise _nothing_to_materialize()


def _nothing_to_materialize() -> InvalidRequestError:
    return InvalidRequestError(
        "There is nothing to materialize: the online store follows the stream by itself. "
        "`slipstream backfill` fills it again from the lake",
        code="nothing_to_materialize",
    )


async def _publish(
    request: Request, source: str, frame: Frame, *, resent: bool = False
) -> Response:
    """Publish the rows. Raises `UnknownSourceError`; other refusals are answers."""
    opened, principal = parts(request), principal_of(request)
    rules = pushes.PushRules(
        opened.settings.privacy.policy(),
        int(opened.settings.features.max_ahead_hours * HOUR_MS),
        principal.name,
        Scope.ADMIN in principal.scopes,
        resent,
    )
    try:
        records = await pushes.records(source, frame, rules, now_ms(), request_id.get())
        for start in range(0, len(records), _HANDED_OVER):
            await opened.producer.publish(records[start : start + _HANDED_OVER])
    except pushes.RefusedRowsError as error:
        return problem(
            422,
            "invalid_rows",
            "Rows are not valid",
            f"nothing was pushed: {error}",
            errors=list(error.faults),
        )
    except BrokerUnavailableError as error:
        raise UnavailableError(str(error)) from error
    return Response()
