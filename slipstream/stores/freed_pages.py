"""Bytes of deleted rows: how a database gives them up, so that its files hold them no more."""

import sqlite3
import time
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Engine, bindparam, text

from slipstream.stores.metadata import DatabaseUnavailableError

# Longest wait for others who hold a table or read an old version of it.
_PATIENCE_S: Final = 10.0
_OWNED: Final = text(
    "SELECT coalesce(bool_and(pg_has_role(relowner, 'USAGE')), false), "
    "coalesce(max(pg_total_relation_size(oid)), 0) "
    "FROM pg_class WHERE relkind = 'r' AND relname IN :names AND pg_table_is_visible(oid)"
).bindparams(bindparam("names", expanding=True))


def overwrite_deleted(engine: Engine, tables: Sequence[str], rewrite_max_bytes: int) -> str:
    """Have the database give up the bytes of deleted rows; returns how, as a sentence.

    SQLite has overwritten them when they were deleted (`metadata.engine` sets `secure_delete`);
    here its write-ahead log is emptied. PostgreSQL writes the tables anew, which locks them
    meanwhile; tables that are too large for that are vacuumed.

    Args:
        engine: The database.
        tables: The tables that rows were deleted from.
        rewrite_max_bytes: The size up to which PostgreSQL rewrites tables.

    Raises:
        DatabaseUnavailableError: Others hold the tables; it can be tried again.
    """
    if engine.dialect.name == "sqlite":
        _empty_log(engine)
        return "SQLite has overwritten the bytes, and emptied its write-ahead log"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        owned, size = db.execute(_OWNED, {"names": list(tables)}).one()
        if not owned:
            return (
                "PostgreSQL does not let this role vacuum its tables: autovacuum frees the space, "
                "and new rows overwrite it"
            )
        db.execute(text(f"SET lock_timeout = '{_PATIENCE_S:g}s'"))
        rewritten = size <= rewrite_max_bytes
        command = "VACUUM (FULL, ANALYZE)" if rewritten else "VACUUM (ANALYZE)"
        for table in tables:
            db.execute(text(f'{command} "{table}"'))
        db.execute(text("RESET lock_timeout"))
    if rewritten:
        return (
            "PostgreSQL has written the tables anew; its write-ahead log holds the bytes until it "
            "is recycled, archives of it as long as they are kept"
        )
    return (
        "PostgreSQL has vacuumed the tables, which are too large to be written anew: new rows "
        "overwrite the freed bytes"
    )


def _empty_log(engine: Engine) -> None:
    """Move SQLite's write-ahead log into the database, and cut it to nothing."""
    deadline = time.monotonic() + _PATIENCE_S
    raw = engine.raw_connection()
    try:
        cursor: Any = raw.cursor()
        while True:
            try:
                busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError:
                busy = 1
            if not busy:
                return
            if time.monotonic() > deadline:
                raise DatabaseUnavailableError("SQLite's write-ahead log is being read")
            time.sleep(0.05)
    finally:
        raw.close()
