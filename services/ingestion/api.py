"""Ingestion's REST API: Segment's tracking calls, a pixel, the catalogue; and how bodies are read.

Bodies go unparsed to `Intake`, unpacked from gzip, or read from the query of a pixel. Routes take
the request itself instead of FastAPI's parameters, which cost more than parsing an event. So the
bodies of the catalogue are described for OpenAPI here; `catalog_entries` reads them. CORS is for
requests of pages; a pixel's page is known by its `Referer`.
"""

import asyncio
import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import PathConvertor, register_url_convertor

from services.ingestion import documentation as docs
from services.ingestion import tracker
from services.ingestion.budgets import setting
from services.ingestion.catalog_entries import EntryKind
from services.ingestion.documentation import Id, Time, described
from services.ingestion.erasures import ErasureReceipts
from services.ingestion.intake import Intake, IntakeHeaders
from services.ingestion.tracker import source_settings
from slipstream.chassis.access.guard import open_to_all, requires
from slipstream.chassis.bodies import read_body
from slipstream.chassis.errors import InvalidRequestError, ServiceError
from slipstream.chassis.hot_routes import HotRoute
from slipstream.chassis.request_names import taking_any_name
from slipstream.contracts.access import Scope

_SEND_LESS: Final = f" ({setting('max_body_bytes')}); send smaller batches"


async def read(request: Request, limit: int, encoding: str) -> bytes:
    """The body of a call, unpacked where it is gzip, of at most `limit` bytes."""
    return await read_body(request, limit, encoding, hint=_SEND_LESS)


def of_pixel(data: str, write_key: str | None) -> bytes:
    """The message in a pixel's `data`, which is JSON or its Base64 in either alphabet.

    Without a type it is a track call. Raises `InvalidRequestError` for anything else.
    """
    text = data.strip()
    try:
        if text.startswith("{"):
            message = orjson.loads(text)
        else:
            # A plus that was not escaped in the query arrives as a space.
            text = text.replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
            message = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(
            "data must be a message as JSON, or as the Base64 of it", code="invalid_json"
        ) from error
    if type(message) is not dict:
        raise InvalidRequestError("data must be a JSON object", code="invalid_body")
    message.setdefault("type", "track")
    if write_key:
        message["writeKey"] = write_key
    try:
        return orjson.dumps(message)
    except orjson.JSONEncodeError as error:
        raise InvalidRequestError(f"data can't be read: {error}", code="invalid_json") from error


@dataclass(frozen=True)
class Parts:
    """The parts of the service that its routes use."""

    intake: Intake
    receipts: ErasureReceipts


def parts(request: Request) -> Parts:
    """The parts that the lifespan has opened."""
    opened: Parts = request.app.state.parts
    return opened


def headers_of(request: Request) -> IntakeHeaders:
    """The headers that intake reads; of one that is there twice, the last."""
    scope = request.scope
    given, client = dict(scope["headers"]), scope.get("client")
    authorization, origin = given.get(b"authorization"), given.get(b"origin")
    return IntakeHeaders(
        authorization.decode("latin-1") if authorization is not None else None,
        given.get(b"user-agent", b"").decode("latin-1"),
        given.get(b"content-encoding", b"").decode("latin-1").strip().lower(),
        origin.decode("latin-1") if origin is not None else None,
        client[0] if client else "",
    )


def body_of_pixel(raw: bytes, intake: Intake, headers: IntakeHeaders) -> bytes:
    """The message in a pixel's query, `raw`; its address is charged where it is refused."""
    intake.admit(headers)
    query = parse_qs(raw.decode("latin-1"), keep_blank_values=True)
    try:
        if "data" not in query:
            raise InvalidRequestError(
                "data is missing: the message as JSON, or as the Base64 of it", code="invalid_body"
            )
        return of_pixel(query["data"][0], query.get("writeKey", [""])[0])
    except ServiceError:
        intake.charge(headers, len(raw))
        raise


async def body_of(request: Request, intake: Intake, headers: IntakeHeaders) -> bytes:
    """The unpacked body of a call; its address is charged where it is refused."""
    intake.admit(headers)
    try:
        return await read(request, intake.max_body_bytes, headers.encoding)
    except ServiceError:
        intake.charge(headers, intake.max_body_bytes)
        raise


def origin_of_page(referer: str) -> str | None:
    """The origin of the page that shows a picture; browsers send `Referer` alone with it."""
    try:
        page = urlsplit(referer)
    except ValueError:
        return None
    return f"{page.scheme}://{page.netloc}" if page.netloc else None


class ItemBody(BaseModel):
    """An item. Every further field is an attribute, at the top level or under `attributes`."""

    model_config = ConfigDict(extra="allow")

    item_id: Id
    available: bool = Field(True, description="false keeps it out of recommendations")
    title: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    price: float | None = Field(None, ge=0)
    image_url: str | None = None
    expires_at: Time | None = Field(
        None, description="no longer recommended from then on; ISO 8601 or milliseconds"
    )
    attributes: dict[str, Any] | None = None


class Entries(BaseModel):
    """A list of the catalogue's entries, and no other field but the write key."""

    model_config = ConfigDict(extra="forbid")

    writeKey: str | None = Field(None, description="where Basic authentication can't be used")


class ItemsBody(Entries):
    """Items to insert or replace."""

    items: list[ItemBody] = Field(
        examples=[
            [{"item_id": "sku-1", "title": "Blue shoes", "categories": ["shoes"], "price": 59.9}]
        ]
    )


class ItemPatch(BaseModel):
    """Changes of an item; every further field is an attribute. Null removes an attribute."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"price": 49.9, "sale": None}]}
    )

    item_id: Id | None = Field(None, description="in a list required")
    available: bool | None = None
    title: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    price: float | None = Field(None, ge=0)
    image_url: str | None = None
    expires_at: Time | None = None
    attributes: dict[str, Any] | None = None


class ItemPatches(Entries):
    """Changes of items."""

    items: list[ItemPatch]


class User(BaseModel):
    """A user; every further field is an attribute."""

    model_config = ConfigDict(extra="allow")

    user_id: Id
    attributes: dict[str, Any] | None = None


class Users(Entries):
    """Users to insert or replace."""

    users: list[User]


class UserPatch(BaseModel):
    """Changes of a user; every field is an attribute. Null removes an attribute."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"plan": "pro", "trial_ends": None}]}
    )

    user_id: Id | None = Field(None, description="in a list required")
    attributes: dict[str, Any] | None = None


class UserPatches(Entries):
    """Changes of users."""

    users: list[UserPatch]


class IdConvertor(PathConvertor):
    """An id in a path: any characters, also the line break that `path` stops at."""

    regex = r"[\s\S]*"


register_url_convertor("id", IdConvertor())

# Routes for every event.
BY_SEGMENT: Final = "Segment's clients decide what they send, and no event is lost for it"
events = APIRouter(prefix="/v1", route_class=taking_any_name(BY_SEGMENT, HotRoute))
# Routes that pages read from, or report to.
pages = APIRouter(
    prefix="/v1",
    include_in_schema=False,
    route_class=taking_any_name("pages version the address of a script, and SDKs add their own"),
)
router = APIRouter(prefix="/v1")

JSON = "application/json"
# Rights of pages on the allowed origins.
CORS: Final[dict[str, Any]] = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": ["Authorization", "Content-Type", "X-Request-Id"],
    "expose_headers": ["Retry-After", "X-Request-Id", "X-Slipstream-Verdict"],
    "max_age": 86_400,
}
# The smallest picture that browsers take: one transparent dot.
PIXEL = bytes.fromhex(
    "474946383961 0100 0100 800000 000000 ffffff"
    "21f90401000000 00 2c 0000 0000 0100 0100 00 02 02 4401 00 3b"
)


@events.post("/track", tags=["events"], **described(docs.Track))
@requires(Scope.EVENTS)
async def track(request: Request) -> Response:
    """Something that a visitor did."""
    return await _message(request, "track")


@events.post("/batch", tags=["events"], **described(docs.BatchBody))
@requires(Scope.EVENTS)
async def batch(request: Request) -> Response:
    """Several calls at once. A bad message is rejected alone; the others are accepted."""
    return await _messages(request, imported=False)


@events.post("/page", tags=["events"], **described(docs.Page))
@requires(Scope.EVENTS)
async def page(request: Request) -> Response:
    """A page view."""
    return await _message(request, "page")


@events.post("/screen", tags=["events"], **described(docs.Screen))
@requires(Scope.EVENTS)
async def screen(request: Request) -> Response:
    """A view of an app's screen."""
    return await _message(request, "screen")


@events.post("/identify", tags=["events"], **described(docs.Identify))
@requires(Scope.IDENTIFY)
async def identify(request: Request) -> Response:
    """Traits of a user; with anonymousId, also that this visitor is the user."""
    return await _message(request, "identify")


@events.post("/group", tags=["events"], **described(docs.GroupBody))
@requires(Scope.EVENTS)
async def group(request: Request) -> Response:
    """Membership of a visitor in a group."""
    return await _message(request, "group")


@events.post("/alias", tags=["events"], **described(docs.Alias))
@requires(Scope.IDENTIFY)
async def alias(request: Request) -> Response:
    """Merge of two ids: the history of previousId becomes part of that of userId."""
    return await _message(request, "alias")


@events.post("/import", tags=["events"], **described(docs.BatchBody))
@requires(Scope.IMPORT)
async def import_history(request: Request) -> Response:
    """A batch of history. Events of any age are accepted, and marked as imported."""
    return await _messages(request, imported=True)


@events.get("/pixel.gif", tags=["events"], **docs.PIXEL)
@requires(Scope.EVENTS)
async def pixel(request: Request) -> Response:
    """One message in a picture's address, for mails and for pages without scripts."""
    intake, status, headers = parts(request).intake, 200, {"Cache-Control": "no-store"}
    try:
        intake_headers = headers_of(request)
        body = body_of_pixel(request.scope["query_string"], intake, intake_headers)
        if intake_headers.origin is None:
            intake_headers = intake_headers._replace(
                origin=origin_of_page(request.headers.get("referer", ""))
            )
        answer = await intake.message(body, intake_headers, None)
        (verdict,) = orjson.loads(answer)["results"]
        outcome = verdict["status"]
    except ServiceError as error:
        verdict, outcome, status = {"code": error.code}, "refused", error.status
        headers |= error.headers
    details = "".join(
        f"; {name}={quote(verdict[name])}" for name in ("code", "field") if verdict.get(name)
    )
    headers["X-Slipstream-Verdict"] = outcome + details
    return Response(PIXEL, status, headers, "image/gif")


for _short, _endpoint in (
    ("t", track),
    ("p", page),
    ("s", screen),
    ("i", identify),
    ("g", group),
    ("a", alias),
):
    # Paths that Segment's browser library sends to.
    events.add_api_route(f"/{_short}", _endpoint, methods=["POST"], include_in_schema=False)


@pages.get("/projects/{write_key}/settings")
@requires(Scope.EVENTS)
async def settings(write_key: str, request: Request) -> Response:
    """Settings that Segment's browser library asks for; a browser keeps them for five minutes."""
    intake, headers = parts(request).intake, headers_of(request)
    intake.admit(headers)
    try:
        intake.authorize(headers, Scope.EVENTS, write_key)
    except ServiceError:
        intake.charge(headers, 0)
        raise
    answer = source_settings(write_key, request.url.scheme, request.headers.get("host", ""))
    return Response(answer, headers={"Cache-Control": "private, max-age=300"}, media_type=JSON)


@pages.post("/m")
@open_to_all
async def library_metrics(request: Request) -> Response:
    """Counts of its own calls that Segment's browser library sends; they are not kept."""
    intake, headers = parts(request).intake, headers_of(request)
    intake.charge(headers, len(await body_of(request, intake, headers)))
    return Response(b'{"success":true}', media_type=JSON)


@router.post("/items", tags=["catalogue"], **described(ItemsBody))
@requires(Scope.CATALOGUE)
async def upsert_items(request: Request) -> Response:
    """Insert or replace items."""
    return await _entries(request, "item")


@router.patch("/items", tags=["catalogue"], **described(ItemPatches))
@requires(Scope.CATALOGUE)
async def patch_items(request: Request) -> Response:
    """Change single attributes of items."""
    return await _entries(request, "item_patch")


@router.patch("/items/{item_id:id}", tags=["catalogue"], **described(ItemPatch))
@requires(Scope.CATALOGUE)
async def patch_item(item_id: str, request: Request) -> Response:
    """Change single attributes of an item, as a JSON merge patch (RFC 7396): null removes one.

    An item that is not there stays so: its patch becomes a dead letter, `unknown_item`.
    """
    return await _patch(request, item_id, "item_patch")


@router.post("/users", tags=["catalogue"], **described(Users))
@requires(Scope.CATALOGUE)
async def upsert_users(request: Request) -> Response:
    """Insert or replace users."""
    return await _entries(request, "user")


@router.patch("/users", tags=["catalogue"], **described(UserPatches))
@requires(Scope.CATALOGUE)
async def patch_users(request: Request) -> Response:
    """Change single attributes of users."""
    return await _entries(request, "user_patch")


@router.patch("/users/{user_id:id}", tags=["catalogue"], **described(UserPatch))
@requires(Scope.CATALOGUE)
async def patch_user(user_id: str, request: Request) -> Response:
    """Change single attributes of a user, as a JSON merge patch (RFC 7396): null removes one.

    A user who is not there stays so: the patch becomes a dead letter, `unknown_user`.
    """
    return await _patch(request, user_id, "user_patch")


@router.delete("/items/{item_id:id}", tags=["catalogue"], **described())
@requires(Scope.CATALOGUE)
async def delete_item(item_id: str, request: Request) -> Response:
    """Delete an item. It is no longer recommended."""
    intake = parts(request).intake
    return Response(await intake.delete("item", item_id, headers_of(request)), media_type=JSON)


@router.delete("/users/{user_id:id}", tags=["catalogue"], **described())
@requires(Scope.ERASE)
async def erase_user(user_id: str, request: Request) -> Response:
    """Erase a user: traits and history, also that of visitors who were merged into the user.

    The answer's `erasure_id` names the receipt, `/v1/erasures/{erasure_id}`.
    """
    intake = parts(request).intake
    return Response(await intake.delete("user", user_id, headers_of(request)), media_type=JSON)


@router.get("/erasures/{erasure_id}", tags=["catalogue"], **docs.RECEIPT)
@requires(Scope.ERASE)
async def erasure(erasure_id: str, request: Request) -> Response:
    """The receipt of an erasure: place by place what is gone since when, or what it waits for.

    202 until the erasure has begun.
    """
    opened = parts(request)
    opened.intake.authorize(headers_of(request), Scope.ERASE)
    receipt = await asyncio.to_thread(opened.receipts.find, erasure_id)
    status = 202 if receipt.state == "requested" else 200
    return Response(receipt.model_dump_json(), status, media_type=JSON)


async def _message(request: Request, kind: str) -> Response:
    intake = parts(request).intake
    headers = headers_of(request)
    body = await body_of(request, intake, headers)
    return Response(await intake.message(body, headers, kind), media_type=JSON)


async def _messages(request: Request, *, imported: bool) -> Response:
    intake = parts(request).intake
    headers = headers_of(request)
    body = await body_of(request, intake, headers)
    return Response(await intake.batch(body, headers, imported=imported), media_type=JSON)


async def _entries(request: Request, kind: EntryKind) -> Response:
    intake = parts(request).intake
    headers = headers_of(request)
    body = await body_of(request, intake, headers)
    return Response(await intake.entries(body, headers, kind), media_type=JSON)


async def _patch(request: Request, entity_id: str, kind: EntryKind) -> Response:
    intake = parts(request).intake
    headers = headers_of(request)
    body = await body_of(request, intake, headers)
    return Response(await intake.patch(entity_id, body, headers, kind), media_type=JSON)


pages.add_api_route("/slipstream.js", open_to_all(tracker.serve), methods=["GET", "HEAD"])
