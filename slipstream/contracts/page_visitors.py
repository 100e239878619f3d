"""Visitors of pages: what a page says in a user's name counts for a visitor apart from the user.

A page's key is known to everyone. Until a server has proven that a page's visitor is the user, an
event that names both counts for the visitor `apart_id(anonymous id)`, which becomes the user with
the proof (docs/adr/0065).
"""

from typing import Final

from slipstream.contracts.vocabulary import MAX_ID_BYTES

_APART: Final = "~unproven"
# Longest id that has one apart, in bytes.
MAX_PAGE_ID_BYTES: Final = MAX_ID_BYTES - len(_APART)


def apart_id(anonymous_id: str) -> str:
    """The visitor of the events that this one's pages send in a user's name."""
    return anonymous_id + _APART


def has_apart(visitor_id: str) -> bool:
    """Whether events may count for a visitor apart from this one."""
    return not visitor_id.endswith(_APART) and len(visitor_id.encode()) <= MAX_PAGE_ID_BYTES


def page_visitor(visitor_id: str) -> str:
    """The anonymous id that `apart_id` was made of; any other id as it is."""
    return visitor_id.removesuffix(_APART)
