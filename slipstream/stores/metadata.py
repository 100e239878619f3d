"""The SQL database for metadata: SQLite in a file by default, PostgreSQL in production.

A service declares its tables on `new_metadata()`; `migrations.migrate` makes them. Transactions
should be short: on SQLite there is one writer at a time for all services that share the file, and
the others wait for it.

Engines that `engine` makes raise `DatabaseUnavailableError` when the database can't be reached.
"""

import sqlite3
import time
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import DatabaseSettings

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


def refuse_absent(settings: DatabaseSettings) -> None:
    """Raise `DatabaseUnavailableError` where the SQLite file is absent, which connecting makes."""
    url = make_url(settings.url.get_secret_value())
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        raise DatabaseUnavailableError(f"there is no database {url.database}")


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

    Meant for libraries with an engine of their own, whose failures are pages long. URLs of other
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
    # A ping that fails is not an answer yet: the pool connects anew.
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
