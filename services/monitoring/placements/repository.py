"""The SQL tables of placements: the newest state of each, and every revision that ever was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    Row,
    String,
    Table,
    Text,
    func,
    select,
    update,
)

from services.monitoring.access.repository import AUDIT
from services.monitoring.slate_tables import insert_new, replacing, upsert
from slipstream.chassis.logging import get_logger
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.rest import AuditRecord
from slipstream.stores.audit import insert_audit
from slipstream.stores.metadata import new_metadata, take_turn

log = get_logger(__name__)

TABLES: Final = new_metadata()
MOST_PLACEMENTS: Final = 200
# An arbitrary number. Changes come one after the other, so that they see each other.
_TURN: Final = 0x51_1B_57_4F

_placements: Final = Table(
    "monitoring_placements",
    TABLES,
    Column("name", String(64), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("policy", Text, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("changed_by", String, nullable=False),
    # Whether the present state is on the topic.
    Column("published", Boolean, nullable=False, index=True),
)
_revisions: Final = Table(
    "monitoring_placement_revisions",
    TABLES,
    Column("name", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("policy", Text, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("changed_by", String, nullable=False),
)


class NoPlacementError(LookupError):
    """There is no placement of this name, or no longer."""


class TooManyPlacementsError(Exception):
    """There are `MOST_PLACEMENTS` already."""


class RevisionMismatchError(Exception):
    """The placement has another revision than the one that was expected; None for none."""

    def __init__(self, name: str, present: int | None) -> None:
        found = f"has revision {present}" if present is not None else "does not exist"
        super().__init__(f"{name} {found}")


class Put(NamedTuple):
    """A placement as it is now, and whether it did not exist before."""

    placement: Placement
    created: bool


class PlacementTable:
    """The placements. Each method is one transaction; changes keep their audit record in it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, limit: int, after: str = "") -> list[Placement]:
        """At most `limit` placements by name, of those behind the name `after`."""
        query = (
            select(_placements)
            .where(~_placements.c.deleted, _placements.c.name > after)
            .order_by(_placements.c.name)
        )
        with self._engine.connect() as db:
            return [_placement(row) for row in db.execute(query.limit(limit))]

    def find(self, name: str) -> Placement:
        """The placement of this name. Raises `NoPlacementError`."""
        with self._engine.connect() as db:
            return _existing(db, name)

    def revisions(self, name: str, limit: int, before: int | None = None) -> list[Placement]:
        """At most `limit` revisions, newest first, of those before the revision `before`.

        Also of a placement that is deleted. Raises `NoPlacementError` where there never was one.
        """
        query = select(_revisions).where(_revisions.c.name == name)
        with self._engine.connect() as db:
            if _newest_revision(db, name) == 0:
                raise NoPlacementError(name)
            if before is not None:
                query = query.where(_revisions.c.revision < before)
            rows = db.execute(query.order_by(_revisions.c.revision.desc()).limit(limit))
            return [_placement(row) for row in rows]

    def put(
        self, name: str, policy: PlacementPolicy, audit: AuditRecord, expected: int | None = None
    ) -> Put:
        """Create a placement, or replace its policy. The same policy again changes nothing.

        Args:
            name: Name of the placement.
            policy: The whole policy.
            audit: Record of the change; its detail gains the revision and the number of rules.
            expected: The revision that it must have; None for any, or none.

        Raises:
            RevisionMismatchError: It has another revision, or does not exist.
            TooManyPlacementsError: It would be one too many.
        """
        with self._changing() as db:
            present = _state(db, name)
            _compare(name, present, expected)
            if present is None and _count(db) >= MOST_PLACEMENTS:
                raise TooManyPlacementsError
            if present is not None and present.policy == policy:
                return Put(present, created=False)
            return Put(_change(db, name, policy, audit), created=present is None)

    def delete(self, name: str, audit: AuditRecord, expected: int | None = None) -> Placement:
        """Mark a placement as deleted; returns its last state. Its revisions stay.

        Raises `RevisionMismatchError` where it has another revision than `expected`, else
        `NoPlacementError` where there is none.
        """
        with self._changing() as db:
            _compare(name, _state(db, name), expected)
            _existing(db, name)
            return _change(db, name, PlacementPolicy(), audit, deleted=True)

    def take_in(self, placements: Iterable[Placement]) -> int:
        """Take in states of the topic after a restore of older ones; returns how many changed."""
        changed = 0
        with self._changing() as db:
            for placement in placements:
                if placement.revision > _newest_revision(db, placement.name):
                    _write(db, placement, published=True)
                    changed += 1
        return changed

    def unpublished(self) -> list[Placement]:
        """Placements whose present state is not on the topic yet, deleted ones too.

        A row that can't be read is logged and left out, so that it holds up no other one.
        """
        with self._engine.connect() as db:
            rows = db.execute(select(_placements).where(~_placements.c.published)).all()
        return [placement for row in rows if (placement := _readable(row)) is not None]

    def mark_published(self, placements: Iterable[Placement]) -> None:
        """Note that these states are on the topic. One that has changed meanwhile still waits."""
        with self._engine.begin() as db:
            for it in placements:
                same = _placements.c.name == it.name, _placements.c.revision == it.revision
                db.execute(update(_placements).where(*same).values(published=True))

    def mark_unpublished(self) -> None:
        """Note that the topic has lost all placements."""
        with self._engine.begin() as db:
            db.execute(update(_placements).values(published=False))

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """A transaction that alone changes placements."""
        with self._engine.begin() as db:
            take_turn(db, _TURN)
            yield db


def _state(db: Connection, name: str) -> Placement | None:
    query = select(_placements).where(_placements.c.name == name, ~_placements.c.deleted)
    row = db.execute(query).one_or_none()
    return _placement(row) if row is not None else None


def _existing(db: Connection, name: str) -> Placement:
    placement = _state(db, name)
    if placement is None:
        raise NoPlacementError(name)
    return placement


def _compare(name: str, present: Placement | None, expected: int | None) -> None:
    revision = present.revision if present is not None else None
    if expected is not None and expected != revision:
        raise RevisionMismatchError(name, revision)


def _count(db: Connection) -> int:
    query = select(func.count()).select_from(_placements).where(~_placements.c.deleted)
    return db.scalar(query) or 0


def _newest_revision(db: Connection, name: str) -> int:
    """The newest revision that ever was, 0 for none; a restored state may be an older one."""
    query = select(func.max(_revisions.c.revision)).where(_revisions.c.name == name)
    return db.scalar(query) or 0


def _change(
    db: Connection, name: str, policy: PlacementPolicy, audit: AuditRecord, *, deleted: bool = False
) -> Placement:
    placement = Placement(
        name=name,
        revision=_newest_revision(db, name) + 1,
        policy=policy,
        deleted=deleted,
        changed_at=audit.at,
        changed_by=audit.principal,
    )
    _write(db, placement, published=False)
    detail = {**audit.detail, "revision": placement.revision, "rules": len(policy.rules)}
    insert_audit(db, AUDIT, audit.model_copy(update={"detail": detail}))
    return placement


def _write(db: Connection, placement: Placement, *, published: bool) -> None:
    values = placement.model_dump() | {"policy": placement.policy.model_dump_json()}
    upsert(db, _placements, [values | {"published": published}], replacing)
    insert_new(db, _revisions, [values])


def _readable(row: Row[Any]) -> Placement | None:
    try:
        return _placement(row)
    except ValueError as error:
        log.error(
            "a placement's row can't be read, so it is not published",
            name=row.name,
            revision=row.revision,
            reason=str(error),
        )
        return None


def _placement(row: Row[Any]) -> Placement:
    return Placement(
        **dict(row._mapping) | {"policy": PlacementPolicy.model_validate_json(row.policy)}
    )
