"""The SQL table of access keys: digests, never keys; and of the audit of what was done to them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Row,
    String,
    Table,
    Text,
    and_,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from services.monitoring.slate_tables import AUDIT
from slipstream.chassis.logging import get_logger
from slipstream.contracts.access import AccessKey
from slipstream.contracts.rest import AuditRecord
from slipstream.contracts.topics import ACCESS_KEYS
from slipstream.stores.metadata import adding, insert_audit, new_metadata, upsert

log = get_logger(__name__)

TABLES: Final = new_metadata()

_keys: Final = Table(
    "monitoring_access_keys",
    TABLES,
    Column("digest", String(64), primary_key=True),
    Column("name", String, nullable=False, index=True),
    Column("scopes", Text, nullable=False),
    Column("browser", Boolean, nullable=False),
    Column("origins", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    # Whether the present state is on the topic.
    Column("published", Boolean, nullable=False, index=True),
    Column("page_key", String, nullable=False, server_default=""),
)
# A row for each name, which whoever changes the name's keys changes first. So another one who does
# waits until the end of that transaction, and then sees what it has done.
_names: Final = Table(
    "monitoring_access_key_names",
    TABLES,
    Column("name", String, primary_key=True),
    Column("changes", BigInteger, nullable=False),
)


class NameTakenError(Exception):
    """A key of this name counts already, or a name has the digest already."""


class NoKeyError(LookupError):
    """No key of this name counts."""


@dataclass(frozen=True)
class KeyEntry:
    """A key as it is kept: its record, who made it, and when it was last used."""

    key: AccessKey
    created_by: str
    last_used_at: int | None = None


class AccessKeyBook:
    """The access keys. Each method is one transaction; changes keep their audit record in it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, limit: int, after: tuple[int, str] | None = None) -> list[KeyEntry]:
        """At most `limit` of all keys ever made, newest first.

        The page begins after the position `after`: (created_at, the beginning of a digest).
        """
        position = tuple_(_keys.c.created_at, _keys.c.digest)
        query = select(_keys).order_by(_keys.c.created_at.desc(), _keys.c.digest.desc())
        if after is not None:
            query = query.where(position < tuple_(*after))
        with self._engine.connect() as db:
            rows = db.execute(query.limit(limit)).all()
        return [KeyEntry(_key(row), row.created_by, row.last_used_at) for row in rows]

    def create(self, key: AccessKey, audit: AuditRecord) -> None:
        """Keep a new key. Raises `NameTakenError` while another one of its name counts, or where
        its digest is known.
        """
        try:
            with self._changing(key.name) as db:
                known = db.scalar(select(_keys.c.name).where(_keys.c.digest == key.digest))
                if known is not None or _valid(db, key.name, audit.at):
                    raise NameTakenError(known or key.name)
                _add(db, key, audit)
        except IntegrityError as error:  # at the same moment, as another name's
            raise NameTakenError("another name") from error

    def rotate(
        self, name: str, digest: str, ends_at: int, audit: AuditRecord, page_key: str = ""
    ) -> AccessKey:
        """Make a key that grants what the newest one of its name does; the older ones end.

        Args:
            ends_at: When the older keys end (ms), unless they end before.
            page_key: Public key that verifies the new key's tokens for pages.

        Raises:
            NoKeyError: No key of this name counts.
        """
        with self._changing(name) as db:
            valid = _valid(db, name, audit.at)
            if not valid:
                raise NoKeyError(name)
            for older in valid:
                if older.expires_at is None or older.expires_at > ends_at:
                    _change(db, older.digest, expires_at=ends_at)
            before = valid[-1]
            fresh = before.model_copy(
                update={
                    "digest": digest,
                    # Rotations at once have their times from before they waited for one another.
                    # The newest key must be the last one, since the others have an end.
                    "created_at": max(audit.at, before.created_at + 1),
                    "page_key": "" if before.browser else page_key,
                }
            )
            _add(db, fresh, audit)
        return fresh

    def revoke(self, name: str, audit: AuditRecord) -> int:
        """End all keys of this name now; returns their number. Raises `NoKeyError` for none."""
        with self._changing(name) as db:
            valid = _valid(db, name, audit.at)
            if not valid:
                raise NoKeyError(name)
            for key in valid:
                _change(db, key.digest, revoked_at=audit.at)
            insert_audit(db, AUDIT, audit)
        return len(valid)

    def take_in(self, keys: Iterable[AccessKey]) -> int:
        """Take in keys of the topic after a restore of older ones; returns how many changed.

        A key ends at the earlier of two ends, so that none counts again that has ended since.
        """
        changed = 0
        with self._engine.begin() as db:
            for key in keys:
                row = db.execute(select(_keys).where(_keys.c.digest == key.digest)).one_or_none()
                if row is None:
                    by = {"created_by": ACCESS_KEYS.name, "published": True}
                    db.execute(insert(_keys).values(**_values(key), **by))
                    changed += 1
                    continue
                ends = {
                    name: min(filter(None, (getattr(row, name), getattr(key, name))), default=None)
                    for name in ("expires_at", "revoked_at")
                }
                if any(getattr(row, name) != end for name, end in ends.items()):
                    _change(db, key.digest, **ends)
                    changed += 1
        return changed

    def unpublished(self) -> list[AccessKey]:
        """Keys with a state that is not on the topic yet.

        A row that can't be read is logged and left out, so that it holds up no other key.
        """
        with self._engine.connect() as db:
            rows = db.execute(select(_keys).where(~_keys.c.published)).all()
        return [key for row in rows if (key := _readable(row)) is not None]

    def mark_published(self, keys: Iterable[AccessKey]) -> None:
        """Note that these states are on the topic. A key that has changed meanwhile still waits."""
        with self._engine.begin() as db:
            for key in keys:
                same = and_(
                    _keys.c.digest == key.digest,
                    _keys.c.expires_at.is_not_distinct_from(key.expires_at),
                    _keys.c.revoked_at.is_not_distinct_from(key.revoked_at),
                )
                db.execute(update(_keys).where(same).values(published=True))

    def note_uses(self, uses: Mapping[str, int]) -> None:
        """Note when keys were last used (ms), by digest; an earlier use changes nothing."""
        with self._engine.begin() as db:
            for digest, used_at in uses.items():
                unknown = or_(_keys.c.last_used_at.is_(None), _keys.c.last_used_at < used_at)
                same = _keys.c.digest == digest
                db.execute(update(_keys).where(same, unknown).values(last_used_at=used_at))

    def mark_unpublished(self) -> None:
        """Note that the topic has lost all keys."""
        with self._engine.begin() as db:
            db.execute(update(_keys).values(published=False))

    @contextmanager
    def _changing(self, name: str) -> Iterator[Connection]:
        """A transaction that alone changes the keys of a name."""
        with self._engine.begin() as db:
            upsert(db, _names, [{"name": name, "changes": 1}], adding)
            yield db


def _valid(db: Connection, name: str, at: int) -> Sequence[AccessKey]:
    """The keys of this name that count, oldest first."""
    counts = and_(
        _keys.c.name == name,
        _keys.c.revoked_at.is_(None),
        or_(_keys.c.expires_at.is_(None), _keys.c.expires_at > at),
    )
    return [_key(row) for row in db.execute(select(_keys).where(counts).order_by("created_at"))]


def _add(db: Connection, key: AccessKey, audit: AuditRecord) -> None:
    db.execute(insert(_keys).values(**_values(key), created_by=audit.principal, published=False))
    insert_audit(db, AUDIT, audit)


def _values(key: AccessKey) -> dict[str, Any]:
    return key.model_dump() | {
        "scopes": orjson.dumps(key.scopes).decode(),
        "origins": orjson.dumps(key.origins).decode(),
    }


def _change(db: Connection, digest: str, **values: int | None) -> None:
    db.execute(update(_keys).where(_keys.c.digest == digest).values(**values, published=False))


def _readable(row: Row[Any]) -> AccessKey | None:
    try:
        return _key(row)
    except ValueError as error:
        log.error(
            "an access key's row can't be read, so it is not published",
            name=row.name,
            digest=row.digest[:12],
            reason=str(error),
        )
        return None


def _key(row: Row[Any]) -> AccessKey:
    values = dict(row._mapping)
    return AccessKey(
        **values
        | {"scopes": orjson.loads(values["scopes"]), "origins": orjson.loads(values["origins"])}
    )
