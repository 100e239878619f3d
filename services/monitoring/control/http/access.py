"""REST routes of access keys, and of the audit of what was done to them."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field, model_validator

from services.monitoring.control.access_repository import (
    AccessKeyBook,
    KeyEntry,
    NameTakenError,
    NoKeyError,
)
from slipstream.chassis.access.guard import audit_record, requires
from slipstream.chassis.access.keys import KEY_ID_LENGTH, digest_of
from slipstream.chassis.access.page_tokens import public_key_of
from slipstream.chassis.errors import ConflictError, InvalidRequestError, NotFoundError
from slipstream.contracts.access import BROWSER_SCOPES, AccessKey, Scope
from slipstream.contracts.events import Millis
from slipstream.contracts.rest import AuditPage, AuditRecord, Problem
from slipstream.contracts.times import DAY_MS
from slipstream.stores.metadata import PAGE_LIMIT, AuditLog

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
PathName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Origin = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]
# When the last key of the page before was made, and the key's id.
_CURSOR = re.compile(r"[0-9]{1,18}-[0-9a-f]{12}")
# Ten years: the end of a key must be a time that records can have.
LONGEST_GRACE_MS: Final = 3650 * DAY_MS
NO_KEY: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "no_key"}}


@dataclass(frozen=True)
class AccessParts:
    """The parts of the service that these routes use."""

    book: AccessKeyBook
    audit: AuditLog
    changed: Callable[[], None]
    clock: Callable[[], int]


class KeyRequest(BaseModel, extra="forbid"):
    """A key to make. `digest` is the SHA-256 in hex of a key that exists already; else one is made.

    A key with `origins` is taken only from their pages. A `browser` key may have the scopes events,
    identify and recommend, since pages show it to everyone.
    """

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1)]
    browser: bool = False
    origins: list[Origin] = Field(default_factory=list)
    expires_at: Millis | None = None
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _safe_in_a_page(self) -> Self:
        if self.browser and not BROWSER_SCOPES.issuperset(self.scopes):
            raise ValueError(
                "a browser key may have the scopes events, identify and recommend, no others"
            )
        if self.origins and not self.browser:
            raise ValueError("origins are for browser keys")
        return self


class Rotation(BaseModel, extra="forbid"):
    """How long the older keys go on to count, in ms."""

    grace_ms: Annotated[int, Field(ge=0, le=LONGEST_GRACE_MS)] = DAY_MS


class KeyBody(BaseModel):
    """A key as it is shown; `id` is the beginning of its digest. Times in ms."""

    id: str
    name: str
    scopes: list[str]
    browser: bool
    origins: list[str]
    created_at: int
    created_by: str
    expires_at: int | None
    revoked_at: int | None
    last_used_at: int | None

    @classmethod
    def of(cls, entry: KeyEntry) -> "KeyBody":
        return cls(
            id=entry.key.digest[:KEY_ID_LENGTH],
            created_by=entry.created_by,
            last_used_at=entry.last_used_at,
            **entry.key.model_dump(exclude={"digest", "page_key"}),
        )


class NewKey(KeyBody):
    """A new key. `key` is shown here only, and null where the caller gave its digest."""

    key: str | None


class KeyPage(BaseModel):
    """Keys, newest first; `next_cursor` is null on the last page."""

    items: list[KeyBody]
    next_cursor: str | None


class Revocation(BaseModel):
    """The number of keys that were ended."""

    revoked: int


router = APIRouter(prefix="/v1", tags=["access"])


def parts(request: Request) -> AccessParts:
    """The parts that the lifespan has opened."""
    opened: AccessParts = request.app.state.access
    return opened


@router.get(
    "/keys",
    summary="All access keys, newest first",
    responses={400: {"model": Problem, "description": "invalid_cursor"}},
)
@requires(Scope.ADMIN)
def list_keys(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> KeyPage:
    """Every key ever made, with its scopes, its end and its last use. No key itself is kept."""
    entries = parts(request).book.page(limit + 1, _position(cursor) if cursor else None)
    items = [KeyBody.of(entry) for entry in entries[:limit]]
    following = f"{items[-1].created_at}-{items[-1].id}" if len(entries) > limit else None
    return KeyPage(items=items, next_cursor=following)


@router.post(
    "/keys",
    status_code=201,
    summary="Make a key",
    responses={409: {"model": Problem, "description": "key_exists"}},
)
@requires(Scope.ADMIN)
def create_key(request: Request, body: KeyRequest) -> NewKey:
    """Make a key. It counts in every service within a second."""
    access = parts(request)
    secret = None if body.digest else secrets.token_urlsafe(24)
    key = AccessKey(
        digest=body.digest or digest_of(secret or ""),
        scopes=sorted(set(body.scopes)),
        created_at=access.clock(),
        page_key=public_key_of(secret) if secret and not body.browser else "",
        **body.model_dump(exclude={"digest", "scopes"}),
    )
    detail = body.model_dump(mode="json", exclude={"name", "digest"}, exclude_defaults=True)
    audit = _audit(request, "create_key", key.name, detail)
    try:
        access.book.create(key, audit)
    except NameTakenError as error:
        raise ConflictError(
            f"{error} has a key that counts: rotate or revoke it, or take another name",
            code="key_exists",
        ) from error
    access.changed()
    return _new(key, audit, secret)


@router.post("/keys/{name}:rotate", summary="Replace the keys of a name", responses=NO_KEY)
@requires(Scope.ADMIN)
def rotate_key(request: Request, name: PathName, body: Rotation | None = None) -> NewKey:
    """Make a key that grants the same; the older ones of its name end after `grace_ms`."""
    access = parts(request)
    grace_ms, secret = (body or Rotation()).grace_ms, secrets.token_urlsafe(24)
    audit = _audit(request, "rotate_key", name, {"grace_ms": grace_ms})
    try:
        key = access.book.rotate(
            name, digest_of(secret), audit.at + grace_ms, audit, public_key_of(secret)
        )
    except NoKeyError as error:
        raise _no_key(name) from error
    access.changed()
    return _new(key, audit, secret)


@router.post("/keys/{name}:revoke", summary="End all keys of a name", responses=NO_KEY)
@requires(Scope.ADMIN)
def revoke_key(request: Request, name: PathName) -> Revocation:
    """End all keys of this name; every service refuses them within a second."""
    access = parts(request)
    try:
        revoked = access.book.revoke(name, _audit(request, "revoke_key", name, {}))
    except NoKeyError as error:
        raise _no_key(name) from error
    access.changed()
    return Revocation(revoked=revoked)


@router.get("/audit", summary="Who did what")
@requires(Scope.ADMIN)
def audit(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 50,
    cursor: Annotated[int | None, Query(description="`next_cursor` of the page before")] = None,
) -> AuditPage:
    """Audit records of keys, placements and erasures, newest first.

    Training keeps those of models and runs.
    """
    return parts(request).audit.page(limit, cursor)


def _position(cursor: str) -> tuple[int, str]:
    if not _CURSOR.fullmatch(cursor):
        raise InvalidRequestError(
            "This cursor was not given out by this list", code="invalid_cursor"
        )
    created_at, key_id = cursor.split("-")
    return int(created_at), key_id


def _audit(request: Request, action: str, subject: str, detail: dict[str, Any]) -> AuditRecord:
    return audit_record(request, action, subject, detail, parts(request).clock())


def _new(key: AccessKey, audit: AuditRecord, secret: str | None) -> NewKey:
    return NewKey(key=secret, **KeyBody.of(KeyEntry(key, audit.principal)).model_dump())


def _no_key(name: str) -> NotFoundError:
    return NotFoundError(f"{name} has no key that counts", code="no_key")
