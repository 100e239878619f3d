"""Access keys: the limits of requests, and rows that can't be read, in real SQLite."""

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, text

from services.monitoring.control.access_repository import AccessKeyBook
from services.monitoring.control.http.access import LONGEST_GRACE_MS, KeyRequest, Rotation
from slipstream.contracts.access import AccessKey, Scope
from slipstream.contracts.rest import AuditRecord

NOW = 1_800_000_000_000


def audit(action: str, at: int = NOW) -> AuditRecord:
    return AuditRecord(at=at, principal="operator", action=action, subject="shop")


def test_longest_grace_of_a_rotation_gives_an_end_that_can_be_read(db: Engine) -> None:
    book = AccessKeyBook(db)
    key = AccessKey(digest="a" * 64, name="shop", scopes=[Scope.EVENTS], created_at=NOW)
    book.create(key, audit("create_key"))
    longest = Rotation(grace_ms=LONGEST_GRACE_MS).grace_ms
    book.rotate("shop", "b" * 64, NOW + longest, audit("rotate_key"))
    assert [key.name for key in book.unpublished()] == ["shop", "shop"]
    assert book.revoke("shop", audit("revoke_key")) == 2


def test_of_rotations_at_once_one_key_has_no_end_whichever_waited(db: Engine) -> None:
    book = AccessKeyBook(db)
    key = AccessKey(digest="a" * 64, name="shop", scopes=[Scope.EVENTS], created_at=NOW)
    book.create(key, audit("create_key"))
    # The time of a rotation is from before it waited, so a later one may have an earlier time.
    for digest, at in zip("bcdef", (NOW + 9, NOW + 4, NOW + 4, NOW + 7, NOW), strict=True):
        book.rotate("shop", digest * 64, at + 5_000, audit("rotate_key", at))
    assert [key.digest[0] for key in book.unpublished() if key.expires_at is None] == ["f"]


@pytest.mark.parametrize("grace_ms", [-1, LONGEST_GRACE_MS + 1, 250_000_000_000_000])
def test_rotation_with_a_grace_beyond_ten_years_is_refused(grace_ms: int) -> None:
    with pytest.raises(ValidationError, match="grace_ms"):
        Rotation(grace_ms=grace_ms)


def test_key_request_with_an_end_that_records_can_not_have_is_refused() -> None:
    with pytest.raises(ValidationError, match="expires_at"):
        KeyRequest(name="shop", scopes=[Scope.EVENTS], expires_at=253_402_300_800_000)


def test_unpublished_leaves_out_a_row_that_can_not_be_read(db: Engine) -> None:
    book = AccessKeyBook(db)
    for name, digest in (("shop", "a" * 64), ("page", "b" * 64)):
        key = AccessKey(digest=digest, name=name, scopes=[Scope.EVENTS], created_at=NOW)
        book.create(key, audit("create_key"))
    with db.begin() as connection:
        connection.execute(
            text(
                "UPDATE monitoring_access_keys SET expires_at = 300000000000000 WHERE name = 'shop'"
            )
        )
    assert [key.name for key in book.unpublished()] == ["page"]
