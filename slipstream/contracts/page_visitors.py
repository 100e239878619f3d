"""Visitors of pages: what a page says in a user's name counts for a visitor apart from the user.

A page's key is known to everyone. Until a server has proven that a page's visitor is the user, an
event that names both counts for the visitor `apart_id(anonymous id)`, which becomes the user with
the proof (docs/adr/0065).

The tracker makes an anonymous id of a secret that stays in the browser. Whoever shows the secret is
the visitor of that id, and an id of any other kind, such as a user's, has none (docs/adr/0081).
"""

import hashlib
import re
import uuid
from typing import Final

from slipstream.contracts.vocabulary import MAX_ID_BYTES

APART: Final = "~unproven"
# Longest id that has one apart, in bytes.
MAX_PAGE_ID_BYTES: Final = MAX_ID_BYTES - len(APART)


def apart_id(anonymous_id: str) -> str:
    """The visitor of the events that this one's pages send in a user's name."""
    return anonymous_id + APART


def has_apart(visitor_id: str) -> bool:
    """Whether events may count for a visitor apart from this one."""
    return not visitor_id.endswith(APART) and len(visitor_id.encode()) <= MAX_PAGE_ID_BYTES


def page_visitor(visitor_id: str) -> str:
    """The anonymous id that `apart_id` was made of; any other id as it is."""
    return visitor_id.removesuffix(APART)


_SECRET: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def id_of_secret(secret: str) -> str | None:
    """The anonymous id that a browser's secret proves; None for a text that is no secret."""
    if not _SECRET.fullmatch(secret):
        return None
    digest = hashlib.sha256(f"slipstream visitor {secret}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))
