"""The SQL tables of a kind of named records."""

from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, String, Table, Text


class Tables(NamedTuple):
    """The newest states, and all revisions."""

    newest: Table
    revisions: Table


def record_tables(metadata: MetaData, kind: str, content: str) -> Tables:
    """The tables of a kind of records, such as `placement`, whose column `content` is JSON."""

    def columns() -> list[Column[Any]]:
        return [
            Column(content, Text, nullable=False),
            Column("deleted", Boolean, nullable=False),
            Column("changed_at", BigInteger, nullable=False),
            Column("changed_by", String, nullable=False),
        ]

    newest = Table(
        f"monitoring_{kind}s",
        metadata,
        Column("name", String(64), primary_key=True),
        Column("revision", Integer, nullable=False),
        *columns(),
        # Whether the present state is on the topic.
        Column("published", Boolean, nullable=False, index=True),
    )
    revisions = Table(
        f"monitoring_{kind}_revisions",
        metadata,
        Column("name", String(64), primary_key=True),
        Column("revision", Integer, primary_key=True),
        *columns(),
    )
    return Tables(newest, revisions)
