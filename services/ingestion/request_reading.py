"""Reading of a request to ingestion: who sends it, and its body within bounds."""

from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.requests import Request

from services.ingestion import bodies
from services.ingestion.erasure_receipts import ErasureReceipts
from services.ingestion.intake import Intake, IntakeHeaders
from slipstream.chassis.errors import InvalidRequestError, ServiceError


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
        return bodies.of_pixel(query["data"][0], query.get("writeKey", [""])[0])
    except ServiceError:
        intake.charge(headers, len(raw))
        raise


async def body_of(request: Request, intake: Intake, headers: IntakeHeaders) -> bytes:
    """The unpacked body of a call; its address is charged where it is refused."""
    intake.admit(headers)
    try:
        return await bodies.read(request, intake.max_body_bytes, headers.encoding)
    except ServiceError:
        intake.charge(headers, intake.max_body_bytes)
        raise
