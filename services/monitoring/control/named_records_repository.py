"""The SQL tables of named records: the newest state of each, and every revision that ever was.

Placements are such records, and need no more.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Generic, NamedTuple, Protocol, TypeVar

import orjson
from pydantic import BaseModel, Field
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    func,
    select,
    update,
)

from services.monitoring.slate_tables import AUDIT
from services.monitoring.threshold_rules import AlertDefinition, ThresholdRule
from slipstream.chassis.logging import get_logger
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.rest import AuditRecord
from slipstream.stores.metadata import (
    insert_audit,
    insert_new,
    new_metadata,
    replacing,
    take_turn,
    upsert,
)


class Tables(NamedTuple):
    """The newest states, and all revisions."""

    newest: Table
    revisions: Table


def record_tables(metadata: MetaData, kind: str, content: str) -> Tables:
    """The tables of a kind of records, such as `placement`. Their column `content` is JSON.

    `published` stays false for a kind without a topic.
    """

    def columns() -> list[Column[Any]]:
        return [
            Column(content, Text, nullable=False),
            Column("deleted", Boolean, nullable=False),
            Column("changed_at", BigInteger, nullable=False),
            Column("changed_by", String, nullable=False),
        ]

    newest = Table(
        f"monitoring_{kind}s",
        metadata,
        Column("name", String(64), primary_key=True),
        Column("revision", Integer, nullable=False),
        *columns(),
        # Whether the present state is on the topic.
        Column("published", Boolean, nullable=False, index=True),
    )
    revisions = Table(
        f"monitoring_{kind}_revisions",
        metadata,
        Column("name", String(64), primary_key=True),
        Column("revision", Integer, primary_key=True),
        *columns(),
    )
    return Tables(newest, revisions)


log = get_logger(__name__)


class NamedRecord(Protocol):
    """The fields of every such record, apart from its content."""

    @property
    def name(self) -> str:
        """The key."""

    @property
    def revision(self) -> int:
        """The number of the state, from 1."""

    def model_dump(self) -> dict[str, Any]:
        """All fields."""


RecordT = TypeVar("RecordT", bound=NamedRecord)
ContentT = TypeVar("ContentT", bound=BaseModel)


class NoRecordError(LookupError):
    """There is no record of this name, or no longer."""


class TooManyRecordsError(Exception):
    """There are as many as the table takes already."""


class RevisionMismatchError(Exception):
    """The record has another revision than the one that was expected; None for none."""

    def __init__(self, name: str, present: int | None) -> None:
        found = f"has revision {present}" if present is not None else "does not exist"
        super().__init__(f"{name} {found}")


class Put(NamedTuple, Generic[RecordT]):
    """A record as it is now, and whether it did not exist before."""

    record: RecordT
    created: bool


class RecordTable(Generic[RecordT, ContentT]):
    """The records of a kind.

    Each method is one transaction; changes keep their audit record in it. A kind's class names its
    tables, its types, the field of the content, the most records, and the number of the turn that
    changes take, so that they see each other.
    """

    tables: ClassVar[Tables]
    field: ClassVar[str]
    most: ClassVar[int]
    turn: ClassVar[int]
    record_type: type[RecordT]
    content_type: type[ContentT]

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, limit: int, after: str = "") -> list[RecordT]:
        """At most `limit` records by name, of those behind the name `after`."""
        newest = self.tables.newest
        query = select(newest).where(~newest.c.deleted, newest.c.name > after)
        with self._engine.connect() as db:
            rows = db.execute(query.order_by(newest.c.name).limit(limit))
            return [self._record(row) for row in rows]

    def find(self, name: str) -> RecordT:
        """The record of this name. Raises `NoRecordError`."""
        with self._engine.connect() as db:
            return self._existing(db, name)

    def revisions(self, name: str, limit: int, before: int | None = None) -> list[RecordT]:
        """At most `limit` revisions, newest first, of those before the revision `before`.

        Also of a record that is deleted. Raises `NoRecordError` where there never was one.
        """
        kept = self.tables.revisions
        query = select(kept).where(kept.c.name == name)
        with self._engine.connect() as db:
            if self._newest_revision(db, name) == 0:
                raise NoRecordError(name)
            if before is not None:
                query = query.where(kept.c.revision < before)
            rows = db.execute(query.order_by(kept.c.revision.desc()).limit(limit))
            return [self._record(row) for row in rows]

    def put(
        self, name: str, content: ContentT, audit: AuditRecord, expected: int | None = None
    ) -> Put[RecordT]:
        """Create a record, or replace its content. The same content again changes nothing.

        Args:
            audit: Record of the change; its detail gains the revision and what `detail` tells.
            expected: The revision that it must have; None for any, or none.

        Raises:
            RevisionMismatchError: It has another revision, or does not exist.
            TooManyRecordsError: It would be one too many.
        """
        with self._changing() as db:
            present = self._state(db, name)
            _compare(name, present, expected)
            if present is None and self._count(db) >= self.most:
                raise TooManyRecordsError
            if present is not None and self._content(present) == content:
                return Put(present, created=False)
            self.check(db, name, content)
            return Put(self._change(db, name, content, audit), created=present is None)

    def delete(self, name: str, audit: AuditRecord, expected: int | None = None) -> RecordT:
        """Mark a record as deleted; returns its last state. Its revisions stay.

        Raises `RevisionMismatchError` where it has another revision than `expected`, else
        `NoRecordError` where there is none.
        """
        with self._changing() as db:
            _compare(name, self._state(db, name), expected)
            content = self.content_of_deleted(self._content(self._existing(db, name)))
            return self._change(db, name, content, audit, deleted=True)

    def take_in(self, records: Iterable[RecordT]) -> int:
        """Take in states of the topic after a restore of older ones; returns how many changed."""
        changed = 0
        with self._changing() as db:
            for record in records:
                if record.revision > self._newest_revision(db, record.name):
                    self._write(db, record, published=True)
                    changed += 1
        return changed

    def unpublished(self) -> list[RecordT]:
        """Records with a state that is not on the topic yet, deleted ones too.

        A row that can't be read is logged and left out, so that it holds up no other one.
        """
        newest = self.tables.newest
        with self._engine.connect() as db:
            rows = db.execute(select(newest).where(~newest.c.published)).all()
        return [record for row in rows if (record := self._readable(row)) is not None]

    def mark_published(self, records: Iterable[RecordT]) -> None:
        """Note that these states are on the topic. One that has changed meanwhile still waits."""
        newest = self.tables.newest
        with self._engine.begin() as db:
            for it in records:
                same = newest.c.name == it.name, newest.c.revision == it.revision
                db.execute(update(newest).where(*same).values(published=True))

    def mark_unpublished(self) -> None:
        """Note that the topic has lost all records."""
        with self._engine.begin() as db:
            db.execute(update(self.tables.newest).values(published=False))

    def check(self, db: Connection, name: str, content: ContentT, /) -> None:
        """Raise where the content does not go with what other rows say."""

    def content_of_deleted(self, last: ContentT, /) -> ContentT:
        """The content of a deleted record, from its last one."""
        return last

    def detail(self, _content: ContentT, /) -> dict[str, Any]:
        """The part of an audit record's detail that tells of the content."""
        return {}

    def all_of(self, db: Connection) -> list[RecordT]:
        """All records that are not deleted; those that can't be read are left out."""
        newest = self.tables.newest
        rows = db.execute(select(newest).where(~newest.c.deleted)).all()
        return [record for row in rows if (record := self._readable(row)) is not None]

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """A transaction that alone changes records of this kind."""
        with self._engine.begin() as db:
            take_turn(db, self.turn)
            yield db

    def _state(self, db: Connection, name: str) -> RecordT | None:
        newest = self.tables.newest
        row = db.execute(
            select(newest).where(newest.c.name == name, ~newest.c.deleted)
        ).one_or_none()
        return self._record(row) if row is not None else None

    def _existing(self, db: Connection, name: str) -> RecordT:
        record = self._state(db, name)
        if record is None:
            raise NoRecordError(name)
        return record

    def _count(self, db: Connection) -> int:
        newest = self.tables.newest
        return db.scalar(select(func.count()).select_from(newest).where(~newest.c.deleted)) or 0

    def _newest_revision(self, db: Connection, name: str) -> int:
        """The newest revision that ever was, 0 for none; a restored state may be an older one."""
        kept = self.tables.revisions
        return db.scalar(select(func.max(kept.c.revision)).where(kept.c.name == name)) or 0

    def _change(
        self,
        db: Connection,
        name: str,
        content: ContentT,
        audit: AuditRecord,
        *,
        deleted: bool = False,
    ) -> RecordT:
        values: dict[str, Any] = {
            "name": name,
            "revision": self._newest_revision(db, name) + 1,
            self.field: content,
            "deleted": deleted,
            "changed_at": audit.at,
            "changed_by": audit.principal,
        }
        record = self.record_type(**values)
        self._write(db, record, published=False)
        detail = {**audit.detail, "revision": record.revision, **self.detail(content)}
        insert_audit(db, AUDIT, audit.model_copy(update={"detail": detail}))
        return record

    def _write(self, db: Connection, record: RecordT, *, published: bool) -> None:
        values = record.model_dump() | {self.field: self._content(record).model_dump_json()}
        upsert(db, self.tables.newest, [values | {"published": published}], replacing)
        insert_new(db, self.tables.revisions, [values])

    def _content(self, record: RecordT) -> ContentT:
        content: ContentT = getattr(record, self.field)
        return content

    def _readable(self, row: Row[Any]) -> RecordT | None:
        try:
            return self._record(row)
        except ValueError as error:
            log.error(
                "a record's row can't be read, so it is left out",
                table=self.tables.newest.name,
                name=row.name,
                revision=row.revision,
                reason=str(error),
            )
            return None

    def _record(self, row: Row[Any]) -> RecordT:
        content = self.content_type.model_validate_json(getattr(row, self.field))
        return self.record_type(**dict(row._mapping) | {self.field: content})


def _compare(name: str, present: NamedRecord | None, expected: int | None) -> None:
    revision = present.revision if present is not None else None
    if expected is not None and expected != revision:
        raise RevisionMismatchError(name, revision)


TABLES: Final = new_metadata()


class PlacementTable(RecordTable[Placement, PlacementPolicy]):
    """The placements."""

    tables = record_tables(TABLES, "placement", "policy")
    field = "policy"
    most = 200
    turn = 0x51_1B_57_4F  # an arbitrary number
    record_type, content_type = Placement, PlacementPolicy

    def content_of_deleted(self, _last: PlacementPolicy, /) -> PlacementPolicy:
        """No rules."""
        return PlacementPolicy()

    def detail(self, content: PlacementPolicy, /) -> dict[str, Any]:
        """The number of rules."""
        return {"rules": len(content.rules)}


RuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
# The rules that a database without them gets: those of the product, by name.
_SHIPPED: Final = Path(__file__).parent.with_name("shipped_rules.json")


class AlertRule(BaseModel):
    """A revision of an alert rule; `changed_at` is in ms."""

    name: RuleName
    revision: Annotated[int, Field(ge=1)]
    definition: AlertDefinition
    deleted: bool = False
    changed_at: int
    changed_by: str = ""


class AlertRuleTable(RecordTable[AlertRule, AlertDefinition]):
    """The alert rules that are data."""

    tables = record_tables(TABLES, "alert_rule", "definition")
    field = "definition"
    most = 200
    turn = 0x51_1B_57_51  # an arbitrary number
    record_type, content_type = AlertRule, AlertDefinition

    def ship(self, now_ms: int) -> None:
        """Add the product's rules that the tables never had. One that was deleted stays so."""
        shipped: dict[str, Any] = orjson.loads(_SHIPPED.read_bytes())
        with self._engine.connect() as db:
            missing = [name for name in shipped if self._newest_revision(db, name) == 0]
        for name in missing:
            audit = AuditRecord(
                at=now_ms, principal="monitoring", action="ship_alert_rule", subject=name
            )
            self.put(name, AlertDefinition.model_validate(shipped[name]), audit)

    def rules(self) -> list[ThresholdRule]:
        """The rules as they are judged now, by name."""
        with self._engine.connect() as db:
            found = self.all_of(db)
        return [
            ThresholdRule(it.name, it.revision, it.definition)
            for it in sorted(found, key=lambda it: it.name)
        ]

    def detail(self, content: AlertDefinition, /) -> dict[str, Any]:
        """The metric and the threshold."""
        return content.model_dump(include={"metric", "of", "comparison", "threshold"})
