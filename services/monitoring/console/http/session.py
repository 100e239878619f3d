"""REST routes of sessions: who signed in at the console, sign-in, sign-out."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, SecretStr

from services.monitoring.console.session_repository import SessionBook
from slipstream.chassis.access.guard import open_to_all
from slipstream.chassis.access.keys import KnownKey
from slipstream.chassis.access.sessions import (
    PLAIN_COOKIE,
    SECURE_COOKIE,
    Session,
    Sessions,
    is_secure,
    names_a_page,
    refusal_of_page,
    secret_of,
)
from slipstream.chassis.access.verifier import ANYBODY, Verifier
from slipstream.chassis.errors import (
    ConflictError,
    ForbiddenError,
    ServiceError,
    UnauthorizedError,
)
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import Problem

# One of these is needed to sign in: no key of a shop's pages has any.
SCOPES: Final = frozenset({Scope.READ, Scope.OPERATE, Scope.ADMIN})


@dataclass(frozen=True)
class SessionParts:
    """The parts of the service that these routes use."""

    book: SessionBook
    sessions: Sessions


class SignIn(BaseModel, extra="forbid"):
    """A credential: the API token, an access key, or a JWT."""

    credential: Annotated[SecretStr, Field(min_length=1, max_length=8_192)]


class SessionBody(BaseModel):
    """Who has signed in.

    Where `needed` is false, there is no sign-in. `expires_at` is in ms, null without a session.
    `addresses` are those by which monitoring reaches what clients call; none before the sign-in.
    """

    needed: bool
    signed_in: bool
    name: str | None
    scopes: list[str]
    expires_at: int | None
    addresses: dict[str, str]


router = APIRouter(prefix="/v1/session", tags=["session"])

REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "unauthorized"},
    403: {"model": Problem, "description": "foreign_origin, scope_missing"},
    409: {"model": Problem, "description": "no_sign_in"},
    429: {"model": Problem, "description": "wrong_credentials"},
}


@router.get("", summary="Who has signed in", responses={403: REFUSED[403]})
@open_to_all
async def get_session(request: Request) -> SessionBody:
    """The session of this browser, also where there is none or it has ended."""
    verifier = _verifier(request)
    if not verifier.required:
        return _body(request, None, KnownKey(ANYBODY))
    found = _parts(request).sessions.of(request.scope, verifier)
    if isinstance(found, UnauthorizedError):
        found = None
    if isinstance(found, ServiceError):
        raise found
    return _body(request, *(found or (None, None)))


@router.post("", summary="Sign in", responses=REFUSED)
@open_to_all
async def sign_in(request: Request, response: Response, body: SignIn) -> SessionBody:
    """Begin a session: its cookie stands for the credential for twelve hours at most.

    It counts for pages of this origin alone. Wrong credentials are limited as elsewhere.
    """
    _refuse_foreign(request)
    verifier, parts = _verifier(request), _parts(request)
    if not verifier.required:
        raise ConflictError(
            "Nothing asks for credentials here, so there is nothing to sign in to",
            code="no_sign_in",
        )
    credential = body.credential.get_secret_value()
    known = verifier.find(credential)
    if known is None:
        wrong = UnauthorizedError("This is no API token, access key or token that counts now")
        raise verifier.refusal(request.client.host if request.client else "", wrong)
    if not known.principal.scopes & SCOPES:
        raise ForbiddenError(
            f"{known.principal.name} has none of the scopes that pages of the console need: "
            f"{', '.join(sorted(SCOPES))}",
            code="scope_missing",
        )
    await _forget(request)
    secret, session = parts.sessions.make(verifier.mark_of(credential), known)
    # The cookie is given once SQL has it, so that the instance that acts next knows it.
    ended = parts.sessions.add(session)
    await asyncio.to_thread(parts.book.keep, session, ended)
    _set_cookie(request, response, secret, (session.ends_at - session.created_at) // 1000)
    return _body(request, session, known)


@router.delete("", status_code=204, summary="Sign out", responses={403: REFUSED[403]})
@open_to_all
async def sign_out(request: Request, response: Response) -> None:
    """End the session of this browser, if there is one."""
    _refuse_foreign(request)
    await _forget(request)
    _set_cookie(request, response, "", 0)


def _parts(request: Request) -> SessionParts:
    opened: SessionParts = request.app.state.session_parts
    return opened


def _verifier(request: Request) -> Verifier:
    verifier: Verifier = request.app.state.verifier
    return verifier


def _refuse_foreign(request: Request) -> None:
    """Raise `ForbiddenError` for a request of a page of another origin, or with a session's cookie
    and without a page.
    """
    if names_a_page(request.scope) or secret_of(request.scope):
        refusal = refusal_of_page(request.scope)
        if refusal is not None:
            raise refusal


async def _forget(request: Request) -> None:
    """End the session of a request's cookie."""
    secret, parts = secret_of(request.scope), _parts(request)
    if secret:
        await asyncio.to_thread(parts.book.forget, parts.sessions.end(secret))


def _set_cookie(request: Request, response: Response, secret: str, seconds: int) -> None:
    secure = is_secure(request.scope)
    response.set_cookie(
        SECURE_COOKIE if secure else PLAIN_COOKIE,
        secret,
        max_age=seconds,
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def _body(request: Request, session: Session | None, known: KnownKey | None) -> SessionBody:
    peers = request.app.state.settings.peers
    return SessionBody(
        needed=_verifier(request).required,
        signed_in=session is not None,
        name=known.principal.name if known is not None and session is not None else None,
        scopes=sorted(known.principal.scopes) if known is not None else [],
        expires_at=session.ends_at if session is not None else None,
        addresses={"ingestion": peers.ingestion_url, "serving": peers.serving_url} if known else {},
    )
