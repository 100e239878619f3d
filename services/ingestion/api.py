"""Ingestion's REST API: Segment's tracking calls, and the catalogue. Bodies go unparsed to `Intake`."""

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from services.ingestion import documentation as docs
from services.ingestion.documentation import described
from services.ingestion.intake import Intake
from slipstream.chassis.errors import TooLargeError


class RawRoute(APIRoute):
    """A route whose endpoint takes the request as it is and returns a response. FastAPI documents it, and is passed by: solving
    no dependencies and validating no answer costs it more than half of what ingestion does with an event."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response: Response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


#: What is called for every event; matched before anything else.
events = APIRouter(prefix="/v1", route_class=RawRoute)
router = APIRouter(prefix="/v1")

JSON = "application/json"


@events.post("/track", tags=["events"], **described(docs.Track))
async def track(request: Request) -> Response:
    """Something that a visitor did."""
    return await _message(request, "track")


@events.post("/page", tags=["events"], **described(docs.Page))
async def page(request: Request) -> Response:
    """A page view."""
    return await _message(request, "page")


@events.post("/identify", tags=["events"], **described(docs.Identify))
async def identify(request: Request) -> Response:
    """What is known of a user."""
    return await _message(request, "identify")


@events.post("/batch", tags=["events"], **described(docs.Batch))
async def batch(request: Request) -> Response:
    """Several calls at once. A bad message is rejected alone, the others are accepted."""
    intake: Intake = request.app.state.intake
    return Response(await intake.batch(await _body(request, intake), request.headers.get("authorization")), media_type=JSON)


@router.post("/items", tags=["catalogue"], **described(docs.Items))
async def upsert_items(request: Request) -> Response:
    """Insert or replace items."""
    intake: Intake = request.app.state.intake
    taken = await intake.entries(await _body(request, intake), request.headers.get("authorization"), "item")
    return Response(taken, media_type=JSON)


@router.post("/users", tags=["catalogue"], **described(docs.Users))
async def upsert_users(request: Request) -> Response:
    """Insert or replace users."""
    intake: Intake = request.app.state.intake
    taken = await intake.entries(await _body(request, intake), request.headers.get("authorization"), "user")
    return Response(taken, media_type=JSON)


@router.delete("/items/{item_id:path}", tags=["catalogue"], **described())
async def delete_item(item_id: str, request: Request) -> Response:
    """Delete an item: it is no longer recommended."""
    intake: Intake = request.app.state.intake
    return Response(await intake.delete_item(item_id, request.headers.get("authorization")), media_type=JSON)


async def _message(request: Request, kind: str) -> Response:
    intake: Intake = request.app.state.intake
    body = await _body(request, intake)
    return Response(await intake.message(body, request.headers.get("authorization"), kind), media_type=JSON)


async def _body(request: Request, intake: Intake) -> bytes:
    """The body, unless it is larger than allowed, which is noticed before it is all read."""
    limit = intake.max_body_bytes
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLargeError(f"The body has more than {limit} bytes; send smaller batches")
        chunks.append(chunk)
    return b"".join(chunks)
