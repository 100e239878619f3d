"""The REST of named records: pages, revisions, and changes that a revision may guard."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Header, Query, Request, Response
from pydantic import BaseModel

from services.monitoring.control.named_records_repository import (
    NamedRecord,
    NoRecordError,
    RecordTable,
    RevisionMismatchError,
    TooManyRecordsError,
)
from slipstream.chassis.access.guard import audit_record
from slipstream.chassis.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
)
from slipstream.contracts.rest import AuditRecord, Problem

# Contents of a page may have 64 KiB each.
PAGE_LIMIT: Final = 50
Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT)]
IfMatch = Annotated[
    str | None,
    Header(description='revision that it must have, as in `"7"`; else 412'),
]
BeforeRevision = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="revision behind which the page begins")
]
CHANGED: Final[dict[int | str, dict[str, Any]]] = {
    412: {"model": Problem, "description": "precondition_failed"}
}

RecordT = TypeVar("RecordT", bound=NamedRecord)
ContentT = TypeVar("ContentT", bound=BaseModel)


def missing(kind: str) -> dict[int | str, dict[str, Any]]:
    """The documentation of the answer to an unknown name."""
    return {404: {"model": Problem, "description": f"no_{kind}"}}


@dataclass(frozen=True)
class RecordRoutes(Generic[RecordT, ContentT]):
    """The answers of the routes of a kind of records.

    Attributes:
        kind: The kind in the singular, such as `placement`; in codes with `_` for a space.
        table: The records.
        changed: Called after each change, to publish it.
        clock: The time, in ms.
    """

    kind: str
    table: RecordTable[RecordT, ContentT]
    changed: Callable[[], None]
    clock: Callable[[], int]

    def page(self, limit: int, cursor: str | None) -> tuple[list[RecordT], str | None]:
        """Records by name, and the cursor of the next page."""
        found = self.table.page(limit + 1, cursor or "")
        items = found[:limit]
        return items, items[-1].name if len(found) > limit else None

    def get(self, response: Response, name: str) -> RecordT:
        """The record; `ETag` is its revision."""
        try:
            return _tagged(self.table.find(name), response)
        except NoRecordError as error:
            raise self.unknown(name) from error

    def put(
        self,
        request: Request,
        response: Response,
        name: str,
        content: ContentT,
        if_match: str | None,
    ) -> RecordT:
        """The record after its content was replaced; 201 where it did not exist."""
        audit = self._audit(request, "put", name)
        try:
            put = self.table.put(name, content, audit, _revision(if_match))
        except RevisionMismatchError as error:
            raise PreconditionFailedError(f"{error}: read it again") from error
        except TooManyRecordsError as error:
            raise ConflictError(
                f"there are {self.table.most} {self.kind}s, and more are not taken: delete one",
                code=f"too_many_{self._code}s",
            ) from error
        self.changed()
        if put.created:
            response.status_code = 201
        return _tagged(put.record, response)

    def delete(self, request: Request, name: str, if_match: str | None) -> RecordT:
        """The last state of a record that is deleted."""
        audit = self._audit(request, "delete", name)
        try:
            deleted = self.table.delete(name, audit, _revision(if_match))
        except RevisionMismatchError as error:
            raise PreconditionFailedError(f"{error}: read it again") from error
        except NoRecordError as error:
            raise self.unknown(name) from error
        self.changed()
        return deleted

    def revisions(
        self, name: str, limit: int, cursor: int | None
    ) -> tuple[list[RecordT], int | None]:
        """Revisions, newest first, and the cursor of the next page."""
        try:
            found = self.table.revisions(name, limit + 1, cursor)
        except NoRecordError as error:
            raise self.unknown(name) from error
        items = found[:limit]
        return items, items[-1].revision if len(found) > limit else None

    def _audit(self, request: Request, deed: str, name: str) -> AuditRecord:
        return audit_record(request, f"{deed}_{self._code}", name, {}, self.clock())

    def unknown(self, name: str) -> NotFoundError:
        """The error of a name that no record has."""
        return NotFoundError(f"there is no {self.kind} {name}", code=f"no_{self._code}")

    @property
    def _code(self) -> str:
        return self.kind.replace(" ", "_")


def _revision(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    if not re.fullmatch(r'"[1-9][0-9]{0,8}"', if_match):
        raise InvalidRequestError('If-Match takes one revision in quotes, as in "7"')
    return int(if_match.strip('"'))


def _tagged(record: RecordT, response: Response) -> RecordT:
    response.headers["ETag"] = f'"{record.revision}"'
    return record
