"""Copies of a database's rows, table by table: JSON lines that any other database can take.

Tables are not copied, only their rows: migrations make the tables. So a copy of SQLite fits
PostgreSQL, and one that an older program made fits the tables of a newer one.
"""

import base64
import gzip
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, MetaData, Table, func, insert, select, text
from sqlalchemy.engine import make_url

from slipstream.chassis.settings import DatabaseSettings
from slipstream.stores.metadata import DatabaseUnavailableError, engine

_BATCH: Final = 1_000
# Columns with the id of a visitor.
_NAMING: Final = ("user_id", "visitor", "person")
# Values that JSON has no form for are an object with one of these keys.
_BYTES, _TIME, _DATE, _NUMBER = "$bytes", "$time", "$date", "$number"


class TableCopy(NamedTuple):
    """A copied table: its name, its file and its number of rows."""

    table: str
    file: str
    rows: int


@contextmanager
def snapshot(settings: DatabaseSettings, scratch: Path) -> Iterator[Connection]:
    """A connection that sees one moment of the database, and keeps no writer waiting.

    Of a SQLite file a copy is made in the folder `scratch`, since a transaction on the file itself
    would hold its lock.

    Raises:
        DatabaseUnavailableError: The database does not answer, or its file can't be read or copied.
    """
    url = make_url(settings.url.get_secret_value())
    if url.get_backend_name() == "sqlite":
        copy = scratch / "snapshot.db"
        try:
            with closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True)) as source:
                source.execute("VACUUM INTO ?", (str(copy),))
        except sqlite3.Error as error:
            raise DatabaseUnavailableError(
                f"{url.database} can't be copied to {scratch}: {error}"
            ) from error
        settings = DatabaseSettings.model_validate({"url": f"sqlite:///{copy}"})
    reading = engine(settings)
    try:
        with reading.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            yield connection
    finally:
        reading.dispose()
        for leftover in scratch.glob("snapshot.db*"):
            leftover.unlink()


def copy_rows(
    connection: Connection, folder: Path, on_table: Callable[[str], None]
) -> list[TableCopy]:
    """Write every table's rows to `<table>.jsonl.gz` in the folder; returns what was copied."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for table in _tables(connection):
        on_table(table.name)
        file = folder / f"{table.name}.jsonl.gz"
        rows = 0
        with gzip.open(file, "wt", encoding="utf-8") as lines:
            found = connection.execution_options(yield_per=_BATCH).execute(select(table))
            for row in found.mappings():
                lines.write(json.dumps(dict(row), default=_encoded) + "\n")
                rows += 1
        copies.append(TableCopy(table.name, file.name, rows))
    return copies


def replace_rows(
    database: Engine,
    folder: Path,
    copies: Sequence[TableCopy],
    change: Callable[[dict[str, Any]], dict[str, Any]],
    live_wins: Callable[[str], bool],
    erased: Collection[str],
) -> int:
    """Put copied rows in place of a database's, in one transaction.

    Columns that the copy does not have take their defaults. Returns the number of rows deleted for
    erased visitors.

    Args:
        copies: The tables to fill. Others stay as they are.
        live_wins: Whether a table's present rows stay, and only the missing ones are written.
        erased: Erased visitors. Rows that name one (`_NAMING`) are deleted again.

    Raises:
        LookupError: The database lacks a table or a column of the copy.
    """
    files = {copy.table: folder / copy.file for copy in copies}
    with database.begin() as connection:
        tables = {table.name: table for table in _tables(connection)}
        lacking = sorted(copy.table for copy in copies if copy.rows and copy.table not in tables)
        if lacking:
            raise LookupError(f"the database has no table {', '.join(lacking)}")
        if connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        filled = [table for table in tables.values() if table.name in files]
        for table in reversed(filled):
            if not live_wins(table.name):
                connection.execute(table.delete())
        for table in filled:
            _fill(connection, table, files[table.name], change, keep=live_wins(table.name))
        replaced = [table for table in filled if not live_wins(table.name)]
        return _delete_visitors(connection, replaced, erased)


def _fill(
    connection: Connection,
    table: Table,
    file: Path,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    keep: bool,
) -> None:
    """Write a file's rows to a table; with `keep` only those that the table does not have."""
    columns = list(table.primary_key.columns)
    present = {tuple(row) for row in connection.execute(select(*columns))} if keep else set()
    for batch in _batches(file):
        if unknown := batch[0].keys() - table.c.keys():
            raise LookupError(f"{table.name} has no column {', '.join(sorted(unknown))}")
        new = [change(row) for row in batch if tuple(row[c.name] for c in columns) not in present]
        if new:
            connection.execute(insert(table), new)
    _advance_sequences(connection, table)


class Contents(NamedTuple):
    """The number of rows of each table, and the revisions of schemas by Alembic's tables."""

    rows: dict[str, int]
    revisions: dict[str, str]


def contents(connection: Connection) -> Contents:
    """What a database has."""
    tables = _tables(connection)
    rows = {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in tables
    }
    revisions = {
        table.name: str(connection.scalar(select(table.c.version_num)))
        for table in tables
        if is_revision(table.name)
    }
    return Contents(rows, revisions)


def contents_of(database: Engine) -> Contents:
    """What a database has, on a connection of its own."""
    with database.connect() as connection:
        return contents(connection)


def is_revision(table: str) -> bool:
    """Whether a table keeps the revision of a schema, and no data."""
    return table.endswith(("_schema_version", "alembic_version"))


def _delete_visitors(
    connection: Connection, tables: Sequence[Table], erased: Collection[str]
) -> int:
    deleted = 0
    visitors = sorted(erased)
    named = [(table, table.c[name]) for table in tables for name in _NAMING if name in table.c]
    for table, column in named:
        for start in range(0, len(visitors), _BATCH):
            some = column.in_(visitors[start : start + _BATCH])
            deleted += connection.execute(table.delete().where(some)).rowcount
    return deleted


def _tables(connection: Connection) -> list[Table]:
    """The tables, those that others refer to first."""
    reflected = MetaData()
    reflected.reflect(connection)
    return list(reflected.sorted_tables)


def _batches(file: Path) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            batch.append(json.loads(line, object_hook=_decoded))
            if len(batch) == _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _advance_sequences(connection: Connection, table: Table) -> None:
    """Let PostgreSQL's sequences go on behind the highest numbers."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        name = {"table": f'"{table.name}"', "column": column.name}
        sequence = connection.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"), name)
        highest = connection.scalar(select(func.max(column))) if sequence else None
        if highest is not None:
            connection.execute(
                text("SELECT setval(CAST(:sequence AS regclass), :highest)"),
                {"sequence": sequence, "highest": highest},
            )


def _encoded(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    if isinstance(value, date):
        return {_DATE: value.isoformat()}
    if isinstance(value, Decimal):
        return {_NUMBER: str(value)}
    raise TypeError(f"a {type(value).__name__} can't be copied")


def _decoded(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        ((kind, content),) = value.items()
        decode: dict[str, Callable[[str], Any]] = {
            _BYTES: base64.b64decode,
            _TIME: datetime.fromisoformat,
            _DATE: date.fromisoformat,
            _NUMBER: Decimal,
        }
        if kind in decode:
            return decode[kind](content)
    return value
