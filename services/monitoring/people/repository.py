"""The repository of erasures: who is to be erased from monitoring's tables, and what was done.

The names of visitors are kept only until their rows are deleted. Marks by digest, which tell late
records, stay for a month.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    String,
    Table,
    Text,
    delete,
    func,
    or_,
    select,
    update,
)

from services.monitoring.counting.tables import credits, identities, visitor_sums
from services.monitoring.slate_tables import AUDIT, samples, shadows
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import CatalogRecord, ErasedVisitors
from slipstream.contracts.late_records import MARKED_MS, ErasureMark, visitor_digest
from slipstream.contracts.positions import Cut, has_passed
from slipstream.contracts.rest import AuditRecord
from slipstream.stores.metadata import (
    DatabaseUnavailableError,
    insert_audit,
    insert_new,
    keeping_greater,
    new_metadata,
    overwrite_deleted,
    upsert,
)

log = get_logger(__name__)

TABLES: Final = new_metadata()

erasures: Final = Table(
    "monitoring_erasures",
    TABLES,
    Column("erasure_id", String, primary_key=True),
    Column("asked_at", BigInteger),
    # When features reported all its visitors, and up to where they are erased.
    Column("told_at", BigInteger),
    Column("cut", Text),
    Column("rows_deleted", BigInteger),
    Column("deleted_at", BigInteger),
    Column("overwritten_at", BigInteger),
    Column("overwritten_how", Text),
)
visitors: Final = Table(
    "monitoring_erasure_visitors",
    TABLES,
    Column("erasure_id", String, primary_key=True),
    Column("visitor_id", String, primary_key=True),
)
marks: Final = Table(
    "monitoring_erasure_marks",
    TABLES,
    Column("digest", String, primary_key=True),
    Column("asked_at", BigInteger, nullable=False, index=True),
    Column("slates_until", BigInteger, nullable=False),
)
# Digests in one condition.
_DIGESTS_AT_ONCE: Final = 1_000
# Tables that hold ids of visitors.
_PERSONAL: Final = (
    *(shadows, samples, visitor_sums, visitors),
    *(credits, identities),
)


class ErasureEntry(NamedTuple):
    """An erasure as monitoring keeps it; times in ms, None for what has not happened.

    Attributes:
        erasure_id: Its id.
        asked_at: Time of the request; None where only features has reported the erasure.
        rows_deleted: The rows that were deleted of its visitors.
        deleted_at: When they were deleted.
        overwritten_at: When the database had given up their bytes.
        overwritten_how: How the database does that.
    """

    erasure_id: str
    asked_at: int | None
    rows_deleted: int
    deleted_at: int | None
    overwritten_at: int | None
    overwritten_how: str


def keep_requests(db: Connection, requests: Iterable[tuple[CatalogRecord, str]]) -> None:
    """Keep the requests of these erasures, with an audit record each, once.

    A request comes with the id of the REST request. The audit names who asked, and not whose
    erasure it is.
    """
    for record, request_id in requests:
        row = {"erasure_id": record.erasure_id}
        insert_new(db, erasures, [row])
        first = update(erasures).where(
            erasures.c.erasure_id == record.erasure_id, erasures.c.asked_at.is_(None)
        )
        if not db.execute(first.values(asked_at=record.timestamp)).rowcount:
            continue
        audit = AuditRecord(
            at=record.timestamp,
            principal=record.source,
            action="erase_user",
            subject=record.erasure_id,
            detail={},
            request_id=request_id,
        )
        insert_audit(db, AUDIT, audit)


def keep_visitors(db: Connection, told: Iterable[ErasedVisitors], now_ms: int) -> None:
    """Keep the visitors of these erasures until their rows are deleted, and mark them."""
    for record in told:
        insert_new(db, erasures, [{"erasure_id": record.erasure_id}])
        mark = {"asked_at": record.asked_at, "slates_until": record.slates_until}
        marked = [{"digest": visitor_digest(each), **mark} for each in record.visitor_ids]
        upsert(db, marks, marked, keeping_greater)
        rows = [
            {"erasure_id": record.erasure_id, "visitor_id": visitor_id}
            for visitor_id in record.visitor_ids
        ]
        insert_new(db, visitors, rows)
        if record.last:
            cut = orjson.dumps(record.cut).decode()
            db.execute(_one(record.erasure_id).values(told_at=now_ms, cut=cut))


class ErasureLedger:
    """The erasures, in SQL. Any thread may read; one thread at a time deletes."""

    def __init__(self, engine: Engine, rewrite_max_bytes: int) -> None:
        """`rewrite_max_bytes` is the largest size of a table that PostgreSQL rewrites."""
        self._engine, self._rewrite_max_bytes = engine, rewrite_max_bytes

    def find(self, erasure_id: str) -> ErasureEntry | None:
        """An erasure by its id."""
        c = erasures.c
        query = select(
            c.erasure_id,
            c.asked_at,
            func.coalesce(c.rows_deleted, 0),
            c.deleted_at,
            c.overwritten_at,
            func.coalesce(c.overwritten_how, ""),
        )
        with self._engine.connect() as db:
            row = db.execute(query.where(c.erasure_id == erasure_id)).first()
        return None if row is None else ErasureEntry(*row)

    def marks_of(self, digests: Collection[str]) -> dict[str, ErasureMark]:
        """The marks of those among these digests that are marked."""
        c, ordered, found = marks.c, sorted(digests), dict[str, ErasureMark]()
        with self._engine.connect() as db:
            if db.scalar(select(c.digest).limit(1)) is None:
                return found
            for begin in range(0, len(ordered), _DIGESTS_AT_ONCE):
                some = c.digest.in_(ordered[begin : begin + _DIGESTS_AT_ONCE])
                rows = db.execute(select(c.digest, c.asked_at, c.slates_until).where(some))
                found |= {digest: ErasureMark(*times) for digest, *times in rows}
        return found

    def forget_marks(self, before_ms: int) -> None:
        """Delete the marks of erasures that were requested before a time (ms)."""
        with self._engine.begin() as db:
            db.execute(delete(marks).where(marks.c.asked_at < before_ms))

    def waiting(self) -> dict[str, Cut]:
        """The cuts of erasures with rows left of their visitors, by the erasures' ids."""
        named = select(visitors.c.erasure_id).distinct()
        query = select(erasures.c.erasure_id, erasures.c.cut).where(
            erasures.c.told_at.is_not(None), erasures.c.erasure_id.in_(named)
        )
        with self._engine.connect() as db:
            return {erasure_id: orjson.loads(cut) for erasure_id, cut in db.execute(query)}

    def delete_rows(self, erasure_ids: Sequence[str], now_ms: int) -> int:
        """Delete the rows of these erasures' visitors, and their names. Returns how many rows."""
        deleted = 0
        for erasure_id in erasure_ids:
            theirs = select(visitors.c.visitor_id).where(visitors.c.erasure_id == erasure_id)
            with self._engine.begin() as db:
                count = 0
                for statement in (
                    delete(shadows).where(shadows.c.user_id.in_(theirs)),
                    delete(samples).where(samples.c.user_id.in_(theirs)),
                    delete(visitor_sums).where(visitor_sums.c.user_id.in_(theirs)),
                    delete(credits).where(credits.c.user_id.in_(theirs)),
                    delete(identities).where(
                        or_(identities.c.visitor.in_(theirs), identities.c.person.in_(theirs))
                    ),
                ):
                    count += db.execute(statement).rowcount
                db.execute(delete(visitors).where(visitors.c.erasure_id == erasure_id))
                db.execute(
                    _one(erasure_id).values(
                        rows_deleted=func.coalesce(erasures.c.rows_deleted, 0) + count,
                        deleted_at=now_ms,
                        overwritten_at=None,
                    )
                )
            deleted += count
        return deleted

    def take_in(
        self, requests: Sequence[CatalogRecord], done: Collection[str], now_ms: int
    ) -> None:
        """Keep what topics and lake know of erasures, after a restore has deleted their rows.

        Args:
            done: The ids of erasures that are reported no more.
        """
        with self._engine.begin() as db:
            keep_requests(db, ((request, "") for request in requests))
            for erasure_id in sorted(done):
                insert_new(db, erasures, [{"erasure_id": erasure_id}])
                db.execute(delete(visitors).where(visitors.c.erasure_id == erasure_id))
                db.execute(_one(erasure_id).values(deleted_at=now_ms, overwritten_at=None))

    def overwrite(self, now_ms: int) -> None:
        """Have the database give up the bytes of deleted rows, where some wait for it.

        Raises `DatabaseUnavailableError` while others hold the tables.
        """
        undone = erasures.c.deleted_at.is_not(None) & erasures.c.overwritten_at.is_(None)
        with self._engine.connect() as db:
            ids = db.scalars(select(erasures.c.erasure_id).where(undone)).all()
        if not ids:
            return
        names = [table.name for table in _PERSONAL]
        how = overwrite_deleted(self._engine, names, self._rewrite_max_bytes)
        with self._engine.begin() as db:
            for erasure_id in ids:
                db.execute(_one(erasure_id).values(overwritten_at=now_ms, overwritten_how=how))


def _one(erasure_id: str) -> Any:
    return update(erasures).where(erasures.c.erasure_id == erasure_id)


class RowDeletion:
    """The job of deleting erased visitors' rows from monitoring's tables. One thread uses it.

    Features tells who is erased. Their rows are deleted once monitoring has committed everything
    from before the cut. Rows of what these visitors did since then go, too; their counts stay. What
    was made before the erasure, and is read later, is left out as it is read (`consumer`).
    """

    def __init__(
        self,
        ledger: ErasureLedger,
        committed: Callable[[], Mapping[str, int]],
        clock: Callable[[], int],
        renew: Callable[[], None],
    ) -> None:
        """
        Args:
            committed: The offset that monitoring's group has committed, by source; raises
                `BrokerUnavailableError`.
            clock: The time, in ms.
            renew: Renews the lease, or raises: another instance may act by now.
        """
        self._ledger, self._committed = ledger, committed
        self._clock, self._renew = clock, renew

    def run(self, stop: threading.Event, every_s: float) -> None:
        """Delete what is due every `every_s` seconds, until `stop` is set."""
        while not stop.wait(every_s):
            try:
                self.step()
            except (DatabaseUnavailableError, BrokerUnavailableError) as error:
                log.warning("rows of erased visitors wait; it is tried again", reason=str(error))

    def step(self) -> None:
        """Delete the rows of all erasures that are due."""
        waiting = self._ledger.waiting()
        if waiting:
            committed = self._committed()
            due = [each for each, cut in waiting.items() if has_passed(committed, cut)]
            if due:
                self._renew()
                rows = self._ledger.delete_rows(due, self._clock())
                log.info("users were erased from monitoring", erasures=len(due), rows=rows)
        self._ledger.overwrite(self._clock())
        self._ledger.forget_marks(self._clock() - MARKED_MS)
