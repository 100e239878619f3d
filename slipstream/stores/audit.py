"""Audit records in SQL: who did what, in a table that each service has for itself."""

from typing import Final

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
)

from slipstream.contracts.rest import AuditPage, AuditRecord

PAGE_LIMIT: Final = 500


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

    def page(self, limit: int, cursor: int | None) -> AuditPage:
        """At most `limit` records, newest first, of those before the record `cursor`."""
        query = select(self._table).order_by(self._table.c.number.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(self._table.c.number < cursor)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        items = [
            AuditRecord(**dict(row._mapping) | {"detail": orjson.loads(row.detail)})
            for row in rows[:limit]
        ]
        return AuditPage(items=items, next_cursor=items[-1].number if len(rows) > limit else None)
