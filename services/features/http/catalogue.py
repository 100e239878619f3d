"""REST routes that read the catalogue; ingestion takes its changes.

Redis keeps the ids of items in no order, so pages over them have cursors.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, NamedTuple

import orjson
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from services.features.http.reads import parts
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import InvalidRequestError, NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.rest import Problem
from slipstream.stores.online import StoreUnavailableError

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


router = APIRouter(prefix="/v1", tags=["catalogue"])
EntityId = Annotated[str, Path(min_length=1, max_length=256)]
_MOST_ITEMS: Final = 500
_NO_ITEM: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "unknown_item"}
}
_NO_USER: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "unknown_user"}
}
_NO_CURSOR: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, "description": "invalid_cursor"}
}


class CatalogItem(BaseModel):
    """An item as it is kept. `updated_at` (ms) is when its last change was received, by the key
    `source`.
    """

    item_id: str
    available: bool
    attributes: dict[str, Any]
    updated_at: int
    source: str

    @classmethod
    def of(cls, record: CatalogRecord) -> "CatalogItem":
        """The body of an item's record."""
        return cls(
            item_id=record.entity_id,
            available=bool(record.available),
            attributes=record.attributes,
            updated_at=record.timestamp,
            source=record.source,
        )


class ItemPage(BaseModel):
    """Items in no order; `next_cursor` is null on the last page.

    Deleted items are left out, so that a page may have fewer than `limit`.
    """

    items: list[CatalogItem]
    next_cursor: str | None


class CatalogUser(BaseModel):
    """A user's attributes: the traits that `identify` or the catalogue said last."""

    user_id: str
    attributes: dict[str, Any]
    updated_at: int
    source: str


@router.get("/items", responses=_NO_CURSOR)
@requires(Scope.READ)
async def list_items(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=_MOST_ITEMS)] = 100,
    cursor: Annotated[
        str | None,
        Query(max_length=LONGEST_CURSOR, description="`next_cursor` of the page before"),
    ] = None,
) -> ItemPage:
    """Every item of the catalogue. One that changes meanwhile may come twice."""
    reader = parts(request).reader
    try:
        place = place_of(cursor) if cursor else PagePlace()
        ids, following = await page_of_ids(
            lambda step: reader.item_ids(step, STEP_IDS), place, limit
        )
        records = await reader.catalog(ids)
    except CursorError as error:
        raise InvalidRequestError(str(error), code="invalid_cursor") from error
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from error
    items = [CatalogItem.of(each) for each in records if each is not None and not each.deleted]
    return ItemPage(items=items, next_cursor=following)


@router.get("/items/{item_id:path}", responses=_NO_ITEM)
@requires(Scope.READ)
async def get_item(request: Request, item_id: EntityId) -> CatalogItem:
    """An item with its attributes. A change is seen when features has read it, in milliseconds."""
    return CatalogItem.of(await _record(request, "item", item_id))


@router.get("/users/{user_id:path}", responses=_NO_USER)
@requires(Scope.READ)
async def get_user(request: Request, user_id: EntityId) -> CatalogUser:
    """A user's attributes."""
    record = await _record(request, "user", user_id)
    return CatalogUser(
        user_id=record.entity_id,
        attributes=record.attributes,
        updated_at=record.timestamp,
        source=record.source,
    )


async def _record(request: Request, entity: str, entity_id: str) -> CatalogRecord:
    """The record of an item or a user. Raises `NotFoundError` and `UnavailableError`."""
    try:
        (record,) = await parts(request).reader.catalog([entity_id], entity)
    except StoreUnavailableError as error:
        raise UnavailableError(str(error)) from error
    if record is None or record.deleted:
        raise NotFoundError(f"no {entity} {entity_id!r} is kept", code=f"unknown_{entity}")
    return record
