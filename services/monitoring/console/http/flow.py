"""REST routes of what passes now: the flow, and a stream of figures and records."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel, Field
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from services.monitoring.console.flow import Flow
from services.monitoring.console.passing_records import WATCHED, Choice
from services.monitoring.console.streams import Stream, Streams, TooManyStreamsError
from services.monitoring.console.visitor_slates_repository import (
    MOST_SLATES,
    SeenSlates,
)
from services.monitoring.console.watching import FlowWatch
from slipstream.chassis.access.guard import Demand, Guard, principal_of, requires
from slipstream.chassis.errors import ForbiddenError, InvalidRequestError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import Problem
from slipstream.contracts.spellings import did_you_mean

# Seconds between two comments, which keep proxies from closing a stream that is silent.
COMMENT_EVERY_S: Final = 15.0
# Seconds between two looks at whether a stream's credential still counts.
JUDGED_EVERY_S: Final = 1.0
# Milliseconds after which a browser connects again.
_RETRY_MS: Final = 1_000


@dataclass(frozen=True)
class FlowParts:
    """The parts of the service that these routes use. `slates_of` gives those of a visitor, at
    most so many.
    """

    watch: FlowWatch
    streams: Streams
    slates_of: Callable[[str, int], SeenSlates]


class Watching(BaseModel):
    """What to show: figures each second, and records, of all or those that all of these name."""

    figures: bool = True
    records: bool = Field(False, description="needs the scope `operate`")
    topic: str | None = None
    kind: str | None = Field(None, description="an event's type, or slate, dead_letter, …")
    visitor: str | None = None
    item: str | None = None
    placement: str | None = None
    code: str | None = Field(None, description="of a dead letter; the rule of an alert")


def written(name: str, event_id: str, json: bytes) -> bytes:
    """An event as a stream has it."""
    return format_sse_event(data_str=json.decode(), event=name, id=event_id)


router = APIRouter(prefix="/v1", tags=["flow"])


@router.get("/flow", summary="Services, topics and stores, and what passes between them")
@requires(Scope.READ)
def get_flow(request: Request) -> Flow:
    """Per edge its rate, lag, delay and drops, measured by the offsets of the last seconds.

    The first look waits for two readings of them.
    """
    parts: FlowParts = request.app.state.flow_parts
    return parts.watch.report()


@router.get("/visitors/{visitor_id:path}/slates", summary="Slates that a visitor was shown")
@requires(Scope.OPERATE)
def get_visitor_slates(
    request: Request,
    visitor_id: Annotated[str, Path(min_length=1)],
    limit: Annotated[int, Query(ge=1, le=MOST_SLATES)] = 20,
) -> SeenSlates:
    """The newest slates of a visitor, and what was clicked in them.

    They are of the lake, so the newest seconds are missing. It is read back in time, for three days
    or three seconds at most; `since` says how far. An unknown visitor has none.
    """
    parts: FlowParts = request.app.state.flow_parts
    return parts.slates_of(visitor_id, limit)


STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    400: {"model": Problem, "description": "unknown_topic"},
    403: {"model": Problem, "description": "scope_missing"},
    503: {"model": Problem, "description": "too_many_streams"},
}


@router.get(
    "/stream",
    summary="Figures and records as they pass, as server-sent events",
    # FastAPI runs an endpoint of `EventSourceResponse` as a generator, which can refuse nothing.
    response_class=StreamingResponse,
    responses=STREAM,
)
@requires(Scope.READ)
async def get_stream(
    request: Request, watching: Annotated[Watching, Query()]
) -> EventSourceResponse:
    """Events: `figures` each second; `record`; `left_out` in each second in which not all records
    were shown; `end` when this instance stops. The id of an event is its time in ms.
    """
    parts: FlowParts = request.app.state.flow_parts
    if watching.records and Scope.OPERATE not in principal_of(request).scopes:
        raise ForbiddenError("records need the scope operate", code="scope_missing")
    if watching.topic not in (None, *WATCHED):
        raise InvalidRequestError(
            f"there is no topic {watching.topic!r} to watch: "
            f"{did_you_mean(watching.topic or '', WATCHED)}",
            code="unknown_topic",
        )
    choice = Choice(**watching.model_dump(exclude={"figures", "records"}))
    guard: Guard | None = request.app.state.guard
    needed = Demand(Scope.OPERATE if watching.records else Scope.READ)
    # A dict that the guard may write into: the stream's own stays as it was judged at first.
    judged = partial(_may_go_on, guard, dict(request.scope), needed)
    try:
        stream = parts.streams.open(
            choice if watching.records else None,
            watching.figures,
            judged,
            principal_of(request).name if guard is not None else "",
        )
    except TooManyStreamsError as error:
        raise UnavailableError(
            "As many streams as one instance or one credential has are open; close one",
            code="too_many_streams",
        ) from error
    return _Streaming(parts.streams, stream)


class _Streaming(EventSourceResponse):
    """The answer with a stream, which it closes however it ends."""

    def __init__(self, streams: Streams, stream: Stream) -> None:
        super().__init__(
            _events(stream),
            # nginx would hold events back, and caches would keep them.
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._streams, self._stream = streams, stream

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.close(self._stream)


async def _events(stream: Stream) -> AsyncIterator[bytes]:
    yield format_sse_event(comment="what passes, as it passes", retry=_RETRY_MS)
    comment_due = monotonic() + COMMENT_EVERY_S
    judged_at = monotonic()
    while True:
        waiting = stream.take()
        if waiting:
            yield waiting
        now = monotonic()
        if now >= comment_due:
            comment_due = now + COMMENT_EVERY_S
            yield format_sse_event(comment="still here")
        if now >= judged_at + JUDGED_EVERY_S:
            judged_at = now
            if not stream.may_go_on():
                return
        if stream.is_over and not waiting:
            return
        if not waiting:
            await stream.wait(min(comment_due, judged_at + JUDGED_EVERY_S) - now)


def _may_go_on(guard: Guard | None, scope: Connection, demand: Demand) -> bool:
    return guard is None or guard.lets_pass(scope, demand)
