"""Scopes that a key or token grants, and the principal who holds one."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """Right to one kind of request. The first five are ingestion's, the others every service's."""

    EVENTS = "events"
    IDENTIFY = "identify"
    CATALOGUE = "catalogue"
    ERASE = "erase"
    IMPORT = "import"
    READ = "read"
    WRITE = "write"
    OPERATE = "operate"
    ADMIN = "admin"


INGESTION_SCOPES = frozenset(
    {Scope.EVENTS, Scope.IDENTIFY, Scope.CATALOGUE, Scope.ERASE, Scope.IMPORT}
)
# The most that a key in a web page may hold: the page's source shows it to everyone.
BROWSER_SCOPES = frozenset({Scope.EVENTS, Scope.IDENTIFY})


@dataclass(frozen=True, slots=True)
class Principal:
    """Holder of a verified key or token: its name, its scopes, and whether a web page holds it."""

    name: str
    scopes: frozenset[Scope]
    browser: bool
