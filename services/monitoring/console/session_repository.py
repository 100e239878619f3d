"""The SQL table of sessions: SHA-256, never secrets."""

from collections.abc import Collection
from typing import Final

import orjson
from sqlalchemy import BigInteger, Column, Engine, String, Table, Text, delete, insert, select

from slipstream.chassis.access.sessions import Session
from slipstream.contracts.access import Principal, Scope
from slipstream.stores.metadata import chunks, new_metadata

TABLES: Final = new_metadata()

_sessions: Final = Table(
    "monitoring_sessions",
    TABLES,
    Column("digest", String(64), primary_key=True),
    # Of the credential that it stands for.
    Column("mark", String(80), nullable=False),
    Column("principal", String, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
)


class SessionBook:
    """The sessions. Each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[Session]:
        """Every session that was kept; some may have ended."""
        with self._engine.connect() as db:
            rows = db.execute(select(_sessions)).all()
        return [
            Session(
                row.digest,
                row.mark,
                # Scopes that this version does not know grant nothing.
                Principal(
                    row.principal,
                    frozenset(scope for scope in Scope if scope.value in orjson.loads(row.scopes)),
                    browser=False,
                ),
                row.created_at,
                row.ends_at,
            )
            for row in rows
        ]

    def keep(self, session: Session, ended: Collection[str]) -> None:
        """Keep a session, and forget those with the digests in `ended`."""
        with self._engine.begin() as db:
            for digests in chunks(ended):
                db.execute(delete(_sessions).where(_sessions.c.digest.in_(digests)))
            db.execute(
                insert(_sessions).values(
                    digest=session.digest,
                    mark=session.mark,
                    principal=session.principal.name,
                    scopes=orjson.dumps(sorted(session.principal.scopes)).decode(),
                    created_at=session.created_at,
                    ends_at=session.ends_at,
                )
            )

    def forget(self, digest: str) -> None:
        """Forget a session, if there is one."""
        with self._engine.begin() as db:
            db.execute(delete(_sessions).where(_sessions.c.digest == digest))
