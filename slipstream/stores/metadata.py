"""The SQL database for metadata: SQLite in a file by default, PostgreSQL in production.

A service declares its tables on `new_metadata()`; `migrations.migrate` makes them. Each service has
a table of audit records of its own: who did what. Bytes of deleted rows are given up, so that the
database's files hold them no more.

Transactions should be short: on SQLite there is one writer at a time for all services that share
the file, and the others wait for it. Engines that `engine` makes raise `DatabaseUnavailableError`
when the database can't be reached.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import SecretStr
from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    case,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import DatabaseSettings
from slipstream.contracts.rest import AuditPage, AuditRecord

# Constraints have predictable names, so that a migration can name them on every database.
NAMING_CONVENTION: Final = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
BUSY_TIMEOUT_MS: Final = 10_000
CONNECT_TIMEOUT_S: Final = 5
_IDS_AT_ONCE: Final = 1_000
# SQLite's codes for a file that others hold, or that can't be read, written or opened now. Its
# other codes blame the statement.
_SQLITE_UNAVAILABLE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)


class DatabaseUnavailableError(DependencyUnavailableError):
    """The database does not answer, is locked for long, or refuses the connection.

    Reasons for the latter are a wrong password and a database that does not exist yet. Nothing was
    written.
    """

    dependency = "database"


def new_metadata() -> MetaData:
    """A MetaData with our naming convention, for tables of one service."""
    return MetaData(naming_convention=NAMING_CONVENTION)


def engine(settings: DatabaseSettings) -> Engine:
    """An engine for the configured database, which connects on first use.

    SQLite runs with write-ahead logging, enforces foreign keys, and waits `BUSY_TIMEOUT_MS` for
    another writer. Its transactions take the write lock when they begin: otherwise one that reads
    and then writes could fail half-way. The file's folder is created.
    """
    url = make_url(settings.url.get_secret_value())
    if url.get_backend_name() != "sqlite":
        made = create_engine(with_connect_timeout(url), pool_pre_ping=True)
    else:
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        made = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
        event.listen(made, "connect", _configure_sqlite)
        event.listen(made, "begin", _begin_immediate)
    event.listen(made, "handle_error", _translate)
    return made


def database_time(connection: Connection) -> int:
    """The time (ms) by the clock of the database; of SQLite that is this machine's."""
    if connection.dialect.name == "postgresql":
        now = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
    else:
        now = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    return int(connection.scalar(text(f"SELECT {now}")))


def take_turn(connection: Connection, turn: int) -> None:
    """Wait for other transactions that take this turn; the next one waits for this one's end.

    SQLite needs nothing: its transactions begin with the write lock. `turn` is the key of one of
    PostgreSQL's advisory locks, of 63 bits.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": turn})


def reach(url: str) -> None:
    """Connect once to a PostgreSQL database; `DatabaseUnavailableError` when that fails.

    Meant for libraries with an engine of their own and failures that are pages long. URLs of other
    databases are not tried.
    """
    if make_url(url).get_backend_name() != "postgresql":
        return
    made = engine(DatabaseSettings(url=SecretStr(url)))
    try:
        made.connect().close()
    finally:
        made.dispose()


def with_connect_timeout(url: URL) -> URL:
    """The URL of a PostgreSQL database with `CONNECT_TIMEOUT_S` as limit, unless it has a limit.

    A host that is gone answers nothing, and without a limit connecting takes minutes.
    """
    if url.get_backend_name() != "postgresql" or "connect_timeout" in url.query:
        return url
    return url.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_S)})


def _translate(context: ExceptionContext) -> None:
    """Raise `DatabaseUnavailableError` for failures of the database; leave those of statements."""
    original = context.original_exception
    if isinstance(original, sqlite3.Error):
        away = getattr(original, "sqlite_errorcode", 0) & 0xFF in _SQLITE_UNAVAILABLE
    else:
        away = (
            context.connection is None
            or context.is_disconnect
            or isinstance(context.sqlalchemy_exception, OperationalError)
        )
    # A ping that fails is not an answer yet: the pool reconnects.
    if away and not context.is_pre_ping:
        where = (
            f" {context.engine.url.set(query={}).render_as_string()}"
            if context.engine is not None
            else ""
        )
        raise DatabaseUnavailableError(
            f"the database{where} is not available: {' '.join(str(original).split())}"
        ) from original


def _configure_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # The driver begins no transactions by itself: `_begin_immediate` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    _use_write_ahead_log(cursor)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Turn a file to write-ahead logging.

    Services that start at once all do it. SQLite does not wait for the others here, so this
    function does.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


PAGE_LIMIT: Final = 500


Merge = Callable[[Column[Any], ColumnElement[Any]], ColumnElement[Any]]


def adding(stored: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    """Merge by addition."""
    return stored + given


def keeping_greater(stored: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    """Merge by keeping the greater value."""
    return case((given > stored, given), else_=stored)


def replacing(_stored: Column[Any], given: ColumnElement[Any]) -> ColumnElement[Any]:
    """Merge by taking the new value."""
    return given


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in ascending lists that one statement can bind."""
    ordered = sorted(ids)
    return (ordered[begin : begin + _IDS_AT_ONCE] for begin in range(0, len(ordered), _IDS_AT_ONCE))


def insert_rows(
    db: Connection, table: Table, rows: Sequence[tuple[Any, ...]], *, new: bool = False
) -> None:
    """Insert rows, each in the order of the table's columns, by the driver's `executemany`.

    SQLAlchemy's own would make a dictionary and a list of each row before. With `new`, a row with a
    present primary key changes nothing.
    """
    if not rows:
        return
    value = "?" if db.dialect.paramstyle == "qmark" else "%s"
    quote = db.dialect.identifier_preparer.quote
    names, values = ", ".join(map(quote, table.columns.keys())), ", ".join([value] * len(rows[0]))
    rest = " ON CONFLICT DO NOTHING" if new else ""
    statement = f"INSERT INTO {quote(table.name)} ({names}) VALUES ({values}){rest}"  # noqa: S608
    db.exec_driver_sql(statement, list(rows))


def insert_new(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; a row with a present primary key changes nothing."""
    if rows:
        db.execute(_insert(db, table).on_conflict_do_nothing(), list(rows))


def _insert(db: Connection, table: Table) -> Any:
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def upsert(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]], merge: Merge) -> None:
    """Insert rows; merge each other column into a row with the same primary key."""
    if not rows:
        return
    statement = _insert(db, table)
    merged = {
        c.name: merge(c, statement.excluded[c.name]) for c in table.columns if not c.primary_key
    }
    db.execute(
        statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=merged),
        list(rows),
    )


def audit_table(name: str, tables: MetaData) -> Table:
    """Declare a service's table of audit records."""
    return Table(
        name,
        tables,
        Column("number", Integer, primary_key=True, autoincrement=True),
        Column("at", BigInteger, nullable=False),
        Column("principal", String, nullable=False),
        Column("action", String, nullable=False),
        Column("subject", String, nullable=False),
        Column("detail", Text, nullable=False),
        Column("request_id", String, nullable=False),
    )


def insert_audit(connection: Connection, table: Table, record: AuditRecord) -> None:
    """Add a record in the caller's transaction: it is kept with what it tells of, or not at all."""
    values = record.model_dump(exclude={"number", "detail"})
    detail = orjson.dumps(record.detail).decode()
    connection.execute(insert(table).values(**values, detail=detail))


class AuditLog:
    """The audit records of one service. Nothing changes or deletes one."""

    def __init__(self, engine: Engine, table: Table) -> None:
        self._engine, self._table = engine, table

    def add(self, record: AuditRecord) -> None:
        """Keep a record."""
        with self._engine.begin() as connection:
            insert_audit(connection, self._table, record)

    def page(self, limit: int, cursor: int | None, without: Collection[str] = ()) -> AuditPage:
        """At most `limit` records, newest first, of those before the record `cursor`; none of the
        actions `without`.
        """
        query = select(self._table).where(self._table.c.action.not_in(without))
        query = query.order_by(self._table.c.number.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(self._table.c.number < cursor)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        items = [
            AuditRecord(**dict(row._mapping) | {"detail": orjson.loads(row.detail)})
            for row in rows[:limit]
        ]
        return AuditPage(items=items, next_cursor=items[-1].number if len(rows) > limit else None)


# Longest wait for others who hold a table or read an old version of it.
_PATIENCE_S: Final = 10.0
_SQLITE_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_OWNED: Final = text(
    "SELECT coalesce(bool_and(pg_has_role(relowner, 'USAGE')), false), "
    "coalesce(max(pg_total_relation_size(oid)), 0) "
    "FROM pg_class WHERE relkind = 'r' AND relname IN :names AND pg_table_is_visible(oid)"
).bindparams(bindparam("names", expanding=True))


def overwrite_deleted(engine: Engine, tables: Sequence[str], rewrite_max_bytes: int) -> str:
    """Have the database give up the bytes of deleted rows; returns how, as a sentence.

    SQLite rewrites its file, and empties its write-ahead log (`secure_delete` would leave bytes
    that moved from page to page). PostgreSQL rewrites the tables, which locks them meanwhile;
    larger tables are vacuumed. The latter holds from `rewrite_max_bytes` on.

    Raises:
        DatabaseUnavailableError: Others hold the tables; it can be tried again.
    """
    if engine.dialect.name == "sqlite":
        _rewrite_file(engine)
        return "SQLite has rewritten its file and emptied its write-ahead log"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        try:
            db.execute(text(f"SET lock_timeout = '{_PATIENCE_S:g}s'"))
            how = _vacuum(db, tables, rewrite_max_bytes)
            db.execute(text("RESET lock_timeout"))
        except Exception:
            # The pool does not reset it, and would hand the connection on with it.
            db.invalidate()
            raise
    return how


def _vacuum(db: Connection, tables: Sequence[str], rewrite_max_bytes: int) -> str:
    """Have PostgreSQL rewrite tables, or vacuum them where they are too large for that."""
    owned, size = db.execute(_OWNED, {"names": list(tables)}).one()
    if not owned:
        return (
            "PostgreSQL does not let this role vacuum its tables: autovacuum frees the space, "
            "and new rows overwrite it"
        )
    rewritten = size <= rewrite_max_bytes
    command = "VACUUM (FULL, ANALYZE)" if rewritten else "VACUUM (ANALYZE)"
    for table in tables:
        db.execute(text(f'{command} "{table}"'))
    if rewritten:
        return (
            "PostgreSQL has rewritten the tables; its write-ahead log and its statistics hold "
            "bytes until they are overwritten, archives of the log as long as they are kept"
        )
    return (
        "PostgreSQL has vacuumed the tables, which are too large to be rewritten: new rows "
        "overwrite the freed bytes"
    )


def _rewrite_file(engine: Engine) -> None:
    """Rewrite SQLite's file, move its write-ahead log into it, and truncate the log."""
    deadline = time.monotonic() + _PATIENCE_S
    raw = engine.raw_connection()
    try:
        cursor: Any = raw.cursor()
        for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            while _is_busy(cursor, statement):
                if time.monotonic() > deadline:
                    raise DatabaseUnavailableError("SQLite's file is being used")
                time.sleep(0.05)
    finally:
        raw.close()


def _is_busy(cursor: Any, statement: str) -> bool:
    """Run a statement; whether others prevent it, as an error or its first column says."""
    try:
        row = cursor.execute(statement).fetchone()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _SQLITE_BUSY:
            raise DatabaseUnavailableError(f"SQLite does not run {statement}: {error}") from error
        return True
    return row is not None and bool(row[0])
