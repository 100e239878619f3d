"""The table of access keys, changed by two requests at the same moment."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.monitoring.control import access_repository
from services.monitoring.control.access_repository import AccessKeyBook, NameTakenError
from services.monitoring.migrations import MIGRATIONS
from slipstream.chassis.settings import DatabaseSettings
from slipstream.contracts.access import AccessKey, Scope
from slipstream.contracts.rest import AuditRecord
from slipstream.stores import metadata
from slipstream.stores.migrations import migrate
from tests.waiting import until

# On SQLite transactions that write come one after the other.
pytestmark = pytest.mark.servers("real")

Change = Callable[[AccessKeyBook], Any]

NOW = 1_800_000_000_000
# Sessions that wait for another one's transaction.
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


def audit(action: str) -> AuditRecord:
    return AuditRecord(at=NOW, principal="operator", action=action, subject="shop")


def created(digest: str, name: str = "shop") -> Change:
    key = AccessKey(digest=digest, name=name, scopes=[Scope.EVENTS], created_at=NOW)
    return lambda book: book.create(key, audit("create_key"))


def rotated(digest: str) -> Change:
    return lambda book: book.rotate("shop", digest, NOW + 1, audit("rotate_key"))


def revoked(book: AccessKeyBook) -> int:
    return book.revoke("shop", audit("revoke_key"))


@pytest.fixture
def db(database_settings: DatabaseSettings) -> Iterator[Engine]:
    made = metadata.engine(database_settings)
    migrate(made, MIGRATIONS)
    yield made
    made.dispose()


@pytest.fixture
def both(db: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change, Change], list[Any]]:
    """Makes two changes, the second one while the first has looked and not yet written; returns the
    errors, None for none.
    """
    add = access_repository._add
    book = AccessKeyBook(db)

    def make(first: Change, second: Change) -> list[Any]:
        with ThreadPoolExecutor(2) as pool:
            later = Future[Any]()

            def add_late(*arguments: Any) -> None:
                monkeypatch.setattr(access_repository, "_add", add)  # the second one adds at once
                other = pool.submit(second, book)
                until(lambda: other.done() or waits(db))
                later.set_result(other)
                add(*arguments)

            monkeypatch.setattr(access_repository, "_add", add_late)
            done = pool.submit(first, book)
            return [done.exception(), later.result(60).exception()]

    return make


def waits(db: Engine) -> bool:
    """Whether the second change waits for the first one."""
    with db.connect() as connection:
        return bool(connection.scalar(WAITING))


def counting(db: Engine) -> list[str]:
    """The digests of the keys that count once a rotation's grace is over."""
    return [
        entry.key.digest
        for entry in AccessKeyBook(db).page(10)
        if entry.key.revoked_at is None and entry.key.expires_at is None
    ]


def test_a_name_that_two_create_at_once_is_taken_by_one(
    db: Engine, both: Callable[[Change, Change], list[Any]]
) -> None:
    first, second = both(created("a" * 64), created("b" * 64))
    assert first is None
    assert isinstance(second, NameTakenError) and str(second) == "shop"
    assert counting(db) == ["a" * 64]


def test_a_digest_that_two_names_get_at_once_is_one_names(
    db: Engine, both: Callable[[Change, Change], list[Any]]
) -> None:
    errors = both(created("a" * 64), created("a" * 64, "page"))
    (lost,) = [error for error in errors if error is not None]
    assert isinstance(lost, NameTakenError)
    assert counting(db) == ["a" * 64]


def test_no_key_outlives_a_revocation_that_meets_a_rotation(
    db: Engine, both: Callable[[Change, Change], list[Any]]
) -> None:
    created("a" * 64)(AccessKeyBook(db))
    assert both(rotated("b" * 64), revoked) == [None, None]
    assert counting(db) == []


def test_of_two_rotations_at_once_the_later_ones_key_remains(
    db: Engine, both: Callable[[Change, Change], list[Any]]
) -> None:
    created("a" * 64)(AccessKeyBook(db))
    assert both(rotated("b" * 64), rotated("c" * 64)) == [None, None]
    assert counting(db) == ["c" * 64]
