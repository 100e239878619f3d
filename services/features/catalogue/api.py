"""REST routes that read the catalogue; ingestion takes its changes."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from services.features.api import parts
from services.features.catalogue.pages import (
    LONGEST_CURSOR,
    STEP_IDS,
    CursorError,
    PagePlace,
    page_of_ids,
    place_of,
)
from slipstream.chassis.access.guard import requires
from slipstream.chassis.errors import InvalidRequestError, NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.rest import Problem
from slipstream.stores.online import StoreUnavailableError

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
