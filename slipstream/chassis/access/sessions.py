"""Sessions of people who signed in at a page: a cookie that stands for their credential.

A session is 256 random bits, of which only the SHA-256 is kept. It ends after twelve hours, at
sign-out, and with its credential. Browsers send cookies to a host whatever its port, and with any
request that a page of the same site makes. So a request by session must come from a page of exactly
this origin, as `Origin` and `Sec-Fetch-Site` say. To plain HTTP at another name than localhost,
browsers send neither with a GET of the same origin; then `Referer` must name it.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from starlette.types import Scope as Connection

from slipstream.chassis.access.keys import KnownKey, digest_of
from slipstream.chassis.access.verifier import Verifier
from slipstream.chassis.errors import ForbiddenError, ServiceError, UnauthorizedError
from slipstream.contracts.access import Principal
from slipstream.contracts.times import HOUR_MS, now_ms

LENGTH_MS: Final = 12 * HOUR_MS
# Sessions that are kept at once. Of more, the oldest one ends.
MOST_SESSIONS: Final = 1_000
# Most sessions of one credential; the oldest of its own end for a new one.
MOST_OF_ONE: Final = 100
# Names of the cookie. A browser takes the first from TLS alone, and for no other host or path.
SECURE_COOKIE, PLAIN_COOKIE = "__Host-slipstream_session", "slipstream_session"
_BITS: Final = 256


class Session(NamedTuple):
    """A session as it is kept; times in ms.

    `mark` is of its credential (`Verifier.mark_of`), `principal` the holder at the sign-in.
    """

    digest: str
    mark: str
    principal: Principal
    created_at: int
    ends_at: int


class Sessions:
    """The sessions that a service takes, in memory. Used in one event loop."""

    def __init__(self, clock: Callable[[], int] = now_ms) -> None:
        """Without any session. `clock` tells the time in ms."""
        self._clock = clock
        self._kept: dict[str, Session] = {}

    def restore(self, kept: Iterable[Session]) -> None:
        """Take the sessions that were kept elsewhere, in place of those from before."""
        self._kept = {each.digest: each for each in sorted(kept, key=lambda it: it.created_at)}

    def make(self, mark: str, known: KnownKey) -> tuple[str, Session]:
        """The secret of a new session of this credential, for the cookie, and the session.

        It counts once it was `add`ed.
        """
        secret, now = secrets.token_urlsafe(_BITS // 8), self._clock()
        ends_at = min(now + LENGTH_MS, known.ends_at or now + LENGTH_MS)
        return secret, Session(digest_of(secret), mark, known.principal, now, ends_at)

    def add(self, session: Session) -> list[str]:
        """Take a session; returns the digests of others that have ended, or that end for it."""
        now = self._clock()
        ended = [digest for digest, each in self._kept.items() if each.ends_at <= now]
        self._kept[session.digest] = session
        own = [digest for digest, each in self._kept.items() if each.mark == session.mark]
        ended += [digest for digest in own if digest not in ended][:-MOST_OF_ONE]
        ended += [digest for digest in self._kept if digest not in ended][:-MOST_SESSIONS]
        for digest in ended:
            del self._kept[digest]
        return ended

    def end(self, secret: str) -> str:
        """End a session; returns its digest, also where there is none."""
        digest = digest_of(secret)
        self._kept.pop(digest, None)
        return digest

    def find(self, secret: str, verifier: Verifier) -> tuple[Session, KnownKey] | None:
        """The session with this secret and its holder; None where one of both has ended."""
        session = self._kept.get(digest_of(secret))
        if session is None or session.ends_at <= self._clock():
            return None
        kept = KnownKey(session.principal, ends_at=session.ends_at)
        holder = verifier.holder(session.mark, kept)
        return None if holder is None else (session, holder)

    def of(
        self, connection: Connection, verifier: Verifier
    ) -> tuple[Session, KnownKey] | ServiceError | None:
        """The session of a request with its holder, or why it may not go on; None for a request
        without a session's cookie.
        """
        secret = secret_of(connection)
        if not secret:
            return None
        foreign = refusal_of_page(connection)
        if foreign is not None:
            return foreign
        return self.find(secret, verifier) or (
            verifier.not_yet()
            or UnauthorizedError("The session has ended: sign in again", code="session_ended")
        )


def secret_of(connection: Connection) -> str:
    """The session's secret in a request's cookies; empty where there is none.

    Over TLS only the cookie counts that no other host can have set.
    """
    found = dict[str, str]()
    for value in _all(connection, b"cookie"):
        for pair in value.split(";"):
            name, _, content = pair.strip().partition("=")
            found.setdefault(name, content)
    plain = "" if connection["scheme"] == "https" else found.get(PLAIN_COOKIE, "")
    return found.get(SECURE_COOKIE) or plain


def refusal_of_page(connection: Connection) -> ForbiddenError | None:
    """The error of a request that no page of exactly this origin has sent; None where one has."""
    if _is_own(connection):
        return None
    return ForbiddenError(
        "A request by session must come from a page of exactly this origin: the same scheme, name "
        "and port. Programs send 'Authorization: Bearer …'",
        code="foreign_origin",
    )


def names_a_page(connection: Connection) -> bool:
    """Whether a request says which page has sent it, as browsers do."""
    return any(_all(connection, name) for name in (b"origin", b"sec-fetch-site"))


def is_secure(connection: Connection) -> bool:
    """Whether the client's connection has TLS; the page's origin says so where a proxy ends it."""
    origins = _all(connection, b"origin")
    return connection["scheme"] == "https" or any(o.startswith("https://") for o in origins)


def _is_own(connection: Connection) -> bool:
    hosts, sites = _all(connection, b"host"), _all(connection, b"sec-fetch-site")
    if len(hosts) != 1 or any(site != "same-origin" for site in sites):
        return False
    pages = _all(connection, b"origin") or ([] if sites else _all(connection, b"referer"))
    if not pages:
        return bool(sites)
    # Behind a proxy that ends TLS, the scheme here may be another one; the browser compared it.
    return all(_names(page, hosts[0], None if sites else connection["scheme"]) for page in pages)


def _names(page: str, host: str, scheme: str | None) -> bool:
    try:
        found = urlsplit(page)
    except ValueError:
        return False
    return found.netloc == host and scheme in (None, found.scheme)


def _all(connection: Connection, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in connection["headers"] if key == name]
