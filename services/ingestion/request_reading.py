"""Reading of a request to ingestion: who sends it, from which page, and its body within bounds.

A body is unpacked from gzip, or read from the query of a pixel. CORS is for requests of pages; a
pixel's page is known by its `Referer`.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

import orjson
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from services.ingestion.budgets import setting
from services.ingestion.erasures import ErasureReceipts
from services.ingestion.intake import Intake, IntakeHeaders
from slipstream.chassis.bodies import read_body
from slipstream.chassis.errors import InvalidRequestError, ServiceError

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


class PageOrigins(CORSMiddleware):
    """CORS for requests with an `Origin` header.

    Only browsers send one for pages. Other clients read no CORS headers, so they need not wait for
    them.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        await (super().__call__ if of_page else self.app)(scope, receive, send)


def origin_of_page(referer: str) -> str | None:
    """The origin of the page that shows a picture; browsers send `Referer` alone with it."""
    try:
        page = urlsplit(referer)
    except ValueError:
        return None
    return f"{page.scheme}://{page.netloc}" if page.netloc else None
