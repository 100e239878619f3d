"""The lease of a service that must act once only: a row in SQL that its holder renews.

No clocks are compared, neither the pods' nor the database's. The holder changes the row every few
seconds. An instance that waits takes the lease at once where the holder gave it back, else once it
has seen the same row for the lease's length by its own monotonic clock. So a holder that was killed
keeps the next one waiting that long.

A holder may be stopped, or cut off, and not know that the lease has gone. So every transaction that
writes first reads the row and holds it until the transaction ends (`guard`). The lease can't change
hands in between, and after it has, the transaction fails.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    MetaData,
    Row,
    String,
    Table,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from slipstream.chassis.dependencies import StandbyError
from slipstream.chassis.logging import get_logger
from slipstream.stores.metadata import DatabaseUnavailableError, new_metadata

log = get_logger(__name__)

# Renewals within the length of a lease: some may be late or fail.
_RENEWALS: Final = 5
# Statements that change nothing.
_READING: Final = ("SELECT", "BEGIN", "PRAGMA", "SAVEPOINT", "RELEASE", "ROLLBACK", "SHOW", "SET")
_FENCED: Final = "slipstream_fenced"
# The listeners of each engine by service: MLflow shares its engines among all clients of a process.
_GUARDS: WeakKeyDictionary[Engine, dict[str, Callable[..., None]]] = WeakKeyDictionary()


class LeaseHeldError(StandbyError):
    """Another instance holds the lease."""

    dependency = "lease"


class LeaseLostError(StandbyError):
    """This instance does not hold the lease any more. Nothing was written."""

    dependency = "lease"


class _Sight(NamedTuple):
    """A row as it was seen, and since when (monotonic seconds)."""

    row: tuple[str, int, int]
    since: float


def lease_tables(service: str) -> MetaData:
    """The service's table `<service>_lease`, which has one row."""
    tables = new_metadata()
    Table(
        f"{service}_lease",
        tables,
        Column("service", String(32), primary_key=True),
        # Empty once it was given back.
        Column("holder", String(255), nullable=False),
        # Counts the holders, so that one that comes back is not taken for the one before.
        Column("term", BigInteger, nullable=False),
        # Counts the renewals.
        Column("beat", BigInteger, nullable=False),
        # The length of the lease, which the holder has chosen.
        Column("seconds", Float, nullable=False),
    )
    return tables


class Lease:
    """The right of one instance of a service to act. Safe to use from several threads.

    Args:
        seconds: Length of the lease, after which another may take it from a silent holder.
        lost: Called, with the reason, by the thread that finds the lease gone.
        clock: Monotonic clock in seconds.
    """

    def __init__(
        self,
        service: str,
        seconds: float,
        lost: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service, self._seconds, self._lost, self._clock = service, seconds, lost, clock
        (self._table,) = lease_tables(service).sorted_tables
        self._holder = f"{socket.gethostname()[:63]}/{secrets.token_hex(8)}"
        self._engine: Engine | None = None
        self._term = 0
        self._sight: _Sight | None = None

    def take(self, engine: Engine, ready: Callable[[Engine], None] = lambda _: None) -> None:
        """Take the lease, and guard the engine's transactions from now on.

        Ask again every second or two: waiting is measured between calls. `ready` is what must be
        done before on the database.

        Raises:
            LeaseHeldError: Another instance has it.
            DatabaseUnavailableError: The database does not answer. Waiting starts over, since the
                holder could not renew meanwhile.
        """
        try:
            ready(engine)
            with engine.begin() as connection:
                self._take(connection)
        except IntegrityError as error:  # another made the first row at the same moment
            raise LeaseHeldError(f"another instance of {self._service} starts") from error
        except DatabaseUnavailableError:
            self._sight = None
            raise
        self._engine = engine
        self.guard(engine)
        log.info("lease taken", service=self._service, term=self._term)

    def renew(self) -> None:
        """Prove that the lease is held, for its length from now.

        Raises:
            LeaseLostError: It is not.
            DatabaseUnavailableError: That can't be told.
        """
        with self._held().begin() as connection:  # guarded, so that it fails where it is lost
            connection.execute(self._mine().values(beat=self._table.c.beat + 1))

    def keep(self, stop: threading.Event) -> None:
        """Renew until `stop` is set; a worker's target. An unavailable database is asked again."""
        failed = False
        while not stop.wait(self._seconds / _RENEWALS):
            try:
                self.renew()
                failed = False
            except DatabaseUnavailableError as error:
                if not failed:
                    log.warning("the lease can't be renewed", reason=str(error))
                failed = True
            except LeaseLostError:
                return

    def release(self) -> None:
        """Give the lease back, so that the next instance need not wait. Never raises."""
        try:
            with self._held().begin() as connection:
                connection.execute(self._mine().values(holder=""))
        except (DatabaseUnavailableError, LeaseLostError) as error:
            log.info("the lease was not given back", reason=str(error))
        self._engine = None

    def guard(self, engine: Engine) -> None:
        """Let transactions of an engine write only while the lease is held.

        Where the engine is another database's, the lease is checked before the first write, and may
        be lost between that and the commit.
        """

        def fence(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
            fenced: set[str] = connection.info.setdefault(_FENCED, set())
            if self._service in fenced or statement.lstrip().upper().startswith(_READING):
                return
            self._fence(connection)
            fenced.add(self._service)

        if engine not in _GUARDS:
            event.listen(engine, "begin", _forget)
        guards = _GUARDS.setdefault(engine, {})
        if self._service in guards:
            event.remove(engine, "before_cursor_execute", guards[self._service])
        event.listen(engine, "before_cursor_execute", fence)
        guards[self._service] = fence

    def _take(self, connection: Connection) -> None:
        # This transaction itself needs no lease.
        connection.info.setdefault(_FENCED, set()).add(self._service)
        row = connection.execute(select(self._table)).one_or_none()
        if row is None:
            values = {"term": 1, "beat": 0}
            connection.execute(insert(self._table).values(self._claim(values)))
            self._term = 1
            return
        seen = self._look(row)
        # A holder that is in the middle of a transaction has the row locked.
        same = select(self._table).with_for_update(skip_locked=True)
        locked = connection.execute(same).one_or_none()
        if locked is None or _as_seen(locked) != seen:
            raise self._held_by(row.holder)
        claim = self._claim({"term": row.term + 1, "beat": row.beat + 1})
        connection.execute(update(self._table).values(claim))
        self._term = row.term + 1

    def _look(self, row: Row[Any]) -> tuple[str, int, int]:
        """The row as it was seen; raises LeaseHeldError unless its holder has been silent."""
        seen, now = _as_seen(row), self._clock()
        if self._sight is None or self._sight.row != seen:
            self._sight = _Sight(seen, now)
        silent_s = now - self._sight.since
        if row.holder and silent_s < row.seconds:
            raise self._held_by(row.holder)
        return seen

    def _held_by(self, holder: str) -> LeaseHeldError:
        host = holder.partition("/")[0] or "no instance"
        return LeaseHeldError(f"{host} acts for {self._service}")

    def _claim(self, counts: dict[str, int]) -> dict[str, Any]:
        return {
            "service": self._service,
            "holder": self._holder,
            "seconds": self._seconds,
            **counts,
        }

    def _mine(self) -> Any:
        mine = (self._table.c.holder == self._holder, self._table.c.term == self._term)
        return update(self._table).where(*mine)

    def _held(self) -> Engine:
        if self._engine is None:
            raise LeaseLostError(f"this instance does not hold the lease of {self._service}")
        return self._engine

    def _fence(self, connection: Connection) -> None:
        held = self._held()
        if connection.engine.url.set(query={}) == held.url.set(query={}):
            self._confirm(connection)
            return
        with held.begin() as apart:
            self._confirm(apart)

    def _confirm(self, connection: Connection) -> None:
        """Raise LeaseLostError unless the row is ours, and keep it so until the transaction ends.

        The row's key is locked: renewals go on, and only a change of hands waits.
        """
        columns: list[Any] = [self._table.c.term]
        if connection.dialect.name == "postgresql":
            # A process that is stopped in a transaction would keep the lock for ever.
            limit = f"{round(self._seconds * 1000)}"
            columns.append(func.set_config("idle_in_transaction_session_timeout", limit, True))
        mine = (self._table.c.holder == self._holder, self._table.c.term == self._term)
        found = select(*columns).where(*mine).with_for_update(read=True, key_share=True)
        if connection.execute(found).one_or_none() is None:
            reason = f"another instance of {self._service} has taken the lease"
            self._lost(reason)
            raise LeaseLostError(reason)


def _forget(connection: Connection) -> None:
    connection.info.pop(_FENCED, None)


def _as_seen(row: Row[Any]) -> tuple[str, int, int]:
    return row.holder, row.term, row.beat
