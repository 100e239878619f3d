"""The SQL database for metadata: SQLite in a file by default, PostgreSQL in production.

A service declares its tables on `new_metadata()` and calls `prepare` when it starts. Transactions
should be short: on SQLite there is one writer at a time for all services that share the file, and
the others wait for it.

Whatever is asked of an engine of ours, a database that can't be reached is a
`DatabaseUnavailableError`.
"""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import DatabaseSettings

# Constraints have predictable names, so that a later migration can name them on every database.
NAMING_CONVENTION: Final = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
BUSY_TIMEOUT_MS: Final = 10_000
CONNECT_TIMEOUT_S: Final = 5
# An arbitrary key of PostgreSQL's advisory locks: services that start at once prepare one after the
# other.
_PREPARE_LOCK: Final = 0x51_1B_57_4E
# SQLite's word for a file that others hold, or that can't be read, written or opened now; its other
# errors are of the statement.
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
    """The database does not answer, is locked for long, or refuses us: a wrong password, a database
    that does not exist yet. Nothing was written.
    """

    dependency = "database"


class SchemaVersionError(RuntimeError):
    """The database holds tables of a newer version of the service than this one; the message says
    which.
    """


def new_metadata() -> MetaData:
    """A MetaData with our naming convention, for the tables of one service."""
    return MetaData(naming_convention=NAMING_CONVENTION)


_bookkeeping = new_metadata()
_schema_version = Table(
    "schema_version",
    _bookkeeping,
    Column("component", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
)


def engine(settings: DatabaseSettings) -> Engine:
    """An engine for the configured database; connects on first use. A SQLite file's folder is
    created.

    SQLite runs with write-ahead logging, foreign keys enforced, and `BUSY_TIMEOUT_MS` to wait for
    another writer. Its transactions take the write lock when they begin, so that one which reads
    and then writes cannot fail half-way.
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


def reach(url: str) -> None:
    """Return when a PostgreSQL database takes connections, else raise `DatabaseUnavailableError`.

    For libraries that bring an engine of their own and tell its failures at length. Any other URL
    is taken as it is.
    """
    if make_url(url).get_backend_name() != "postgresql":
        return
    made = engine(DatabaseSettings(url=SecretStr(url)))
    try:
        made.connect().close()
    finally:
        made.dispose()


def with_connect_timeout(url: URL) -> URL:
    """The URL of a PostgreSQL database with a limit to how long connecting may take, unless it
    names one: a host that is gone answers nothing, and without a limit whoever asks would wait for
    minutes.
    """
    if url.get_backend_name() != "postgresql" or "connect_timeout" in url.query:
        return url
    return url.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_S)})


def prepare(
    engine: Engine, component: str, metadata: MetaData, migrations: Sequence[Sequence[str]] = ()
) -> None:
    """Create a component's tables, or bring those of an older version up to date, in one
    transaction.

    `migrations[i]` are the statements that lead from version i + 1 to i + 2; `metadata` describes
    the newest version. Safe to call from several processes at once. Raises SchemaVersionError when
    the tables are newer than this code.
    """
    newest = len(migrations) + 1
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PREPARE_LOCK})
        _bookkeeping.create_all(connection)
        found = _version(connection, component)
        if found is not None and found > newest:
            raise SchemaVersionError(
                f"the tables of {component} are at version {found}, this program knows {newest}: start the newer program"
            )
        for statements in migrations[found - 1 :] if found is not None else ():
            for statement in statements:
                connection.execute(text(statement))
        metadata.create_all(connection)
        if found is None:
            connection.execute(insert(_schema_version).values(component=component, version=newest))
        else:
            connection.execute(
                update(_schema_version)
                .where(_schema_version.c.component == component)
                .values(version=newest)
            )


def _translate(context: ExceptionContext) -> None:
    """Raise `DatabaseUnavailableError` in place of a failure that is the database's, and not the
    statement's.
    """
    original = context.original_exception
    if isinstance(original, sqlite3.Error):
        away = getattr(original, "sqlite_errorcode", 0) & 0xFF in _SQLITE_UNAVAILABLE
    else:
        away = (
            context.connection is None
            or context.is_disconnect
            or isinstance(context.sqlalchemy_exception, OperationalError)
        )
    # What the pool asks of a connection before it lends it is not an answer yet: it connects anew.
    if away and not context.is_pre_ping:
        where = (
            f" {context.engine.url.set(query={}).render_as_string()}"
            if context.engine is not None
            else ""
        )
        raise DatabaseUnavailableError(
            f"the database{where} is not available: {' '.join(str(original).split())}"
        ) from original


def _version(connection: Connection, component: str) -> int | None:
    return connection.scalar(
        select(_schema_version.c.version).where(_schema_version.c.component == component)
    )


def _configure_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # The driver's own idea of when a transaction begins is switched off: `_begin_immediate` says
    # it.
    connection.isolation_level = None
    cursor = connection.cursor()
    _use_write_ahead_log(cursor)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Services that start at once all turn a new file to write-ahead logging; for this SQLite does
    not wait for the others.
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
