"""Bytes of deleted rows: how a database gives them up, so that its files hold them no more."""

import sqlite3
import time
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, bindparam, text

from slipstream.stores.metadata import DatabaseUnavailableError

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

    SQLite writes its file anew, and empties its write-ahead log (`secure_delete` would leave what
    moved from page to page). PostgreSQL writes the tables anew, which locks them meanwhile; tables
    that are too large for that are vacuumed.

    Args:
        engine: The database.
        tables: The tables that rows were deleted from.
        rewrite_max_bytes: The size up to which PostgreSQL rewrites tables.

    Raises:
        DatabaseUnavailableError: Others hold the tables; it can be tried again.
    """
    if engine.dialect.name == "sqlite":
        _rewrite_file(engine)
        return "SQLite has written its file anew, and emptied its write-ahead log"
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
    """Have PostgreSQL write tables anew, or vacuum them where they are too large for that."""
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
            "PostgreSQL has written the tables anew; its write-ahead log and its statistics hold "
            "bytes until they are overwritten, archives of the log as long as they are kept"
        )
    return (
        "PostgreSQL has vacuumed the tables, which are too large to be written anew: new rows "
        "overwrite the freed bytes"
    )


def _rewrite_file(engine: Engine) -> None:
    """Write SQLite's file anew, and move its write-ahead log into it, which is cut to nothing."""
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
