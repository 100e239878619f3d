"""Pages over the ids of items, which Redis keeps in no order."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import orjson

# Ids that one step of Redis' scan returns, about. A page is a part of a step.
STEP_IDS: Final = 1_000
LONGEST_CURSOR: Final = 1_024
_MOST_CURSOR: Final = 2**64

# Reads a step of the scan from a place: the place of the next step, 0 at the end, and the ids.
Scan = Callable[[int], Awaitable[tuple[int, list[str]]]]


class CursorError(ValueError):
    """Raised for a text that no page gave as its cursor."""


class PagePlace(NamedTuple):
    """The place behind a page: the step that it is a part of, the next step, and its last id.

    Within a step ids are in order. Where Redis has resized its set since, the step ends elsewhere
    and is given again from its beginning: an id may come twice, and none is left out.
    """

    step: int = 0
    next_step: int = 0
    last_id: str = ""


async def page_of_ids(scan: Scan, place: PagePlace, limit: int) -> tuple[list[str], str | None]:
    """The ids of a page, at most `limit`, and the cursor of the next one; None on the last page."""
    next_step, ids = await scan(place.step)
    resumed = place.last_id if next_step == place.next_step else ""
    left = sorted(each for each in set(ids) if each > resumed)
    page = left[:limit]
    if len(left) > limit:
        return page, _cursor(PagePlace(place.step, next_step, page[-1]))
    return page, _cursor(PagePlace(next_step)) if next_step else None


def place_of(cursor: str) -> PagePlace:
    """The place that a cursor names. Raises `CursorError`."""
    try:
        given = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        step, next_step, last_id = orjson.loads(given)
    except (binascii.Error, ValueError, TypeError) as error:
        raise CursorError("not a cursor of this list") from error
    numbers = all(type(each) is int and 0 <= each < _MOST_CURSOR for each in (step, next_step))
    if not numbers or type(last_id) is not str:
        raise CursorError("not a cursor of this list")
    return PagePlace(step, next_step, last_id)


def _cursor(place: PagePlace) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place[:])).decode().rstrip("=")
