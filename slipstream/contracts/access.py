"""Scopes that a key or token grants, the principal who holds one, and the records of keys."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from slipstream.contracts.events import Millis, Record


class Scope(StrEnum):
    """Right to one kind of request.

    The first five are ingestion's, the last is that of services' tokens, the others are every
    service's.
    """

    EVENTS = "events"
    IDENTIFY = "identify"
    CATALOGUE = "catalogue"
    ERASE = "erase"
    IMPORT = "import"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"
    RECOMMEND = "recommend"
    SERVICE = "service"


INGESTION_SCOPES = frozenset(
    {Scope.EVENTS, Scope.IDENTIFY, Scope.CATALOGUE, Scope.ERASE, Scope.IMPORT}
)
# The most that a key in a web page may hold: the page's source shows it to everyone.
BROWSER_SCOPES = frozenset({Scope.EVENTS, Scope.IDENTIFY, Scope.RECOMMEND})


@dataclass(frozen=True, slots=True)
class Principal:
    """Holder of a verified key or token: its name, its scopes, and whether a web page holds it."""

    name: str
    scopes: frozenset[Scope]
    browser: bool


class AccessKey(Record):
    """`access-keys.v1`, key `digest`: the newest state of an access key. The key itself is nowhere.

    `digest` is the key's SHA-256 in hex. A key with `origins` is taken only from their pages. It
    counts until `expires_at` or `revoked_at`, whichever comes first. `page_key` is the public key
    that verifies the tokens which its holder signs for pages; empty for a browser's key, and where
    only the digest is known.
    """

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    name: str
    scopes: list[str]
    browser: bool = False
    origins: list[str] = Field(default_factory=list)
    created_at: Millis
    expires_at: Millis | None = None
    revoked_at: Millis | None = None
    page_key: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]{43}=)?$")] = ""


class AccessKeyUse(Record):
    """`access-key-uses.v1`, key `digest`: a service took this key last at `used_at`."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    used_at: Millis
