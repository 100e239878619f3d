"""Tokens by which a shop's server proves who the visitor of a page is."""

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from slipstream.chassis.access.keys import KeyRing, digest_of
from slipstream.chassis.access.page_tokens import (
    PageTokens,
    Unproven,
    _private_key,
    public_key_of,
    signed_user,
)
from slipstream.contracts.access import Scope
from tests.unit.chassis.access.key_records import key_record

KEY = "a-server-key-of-thirty-two-letters"
KID = {"kid": digest_of(KEY)[:12]}


def tokens(*, scope: Scope = Scope.IDENTIFY, **fields: Any) -> PageTokens:
    ring = KeyRing()
    ring.take(key_record(KEY, [scope], **{"page_key": public_key_of(KEY)} | fields))
    return PageTokens(ring)


def claims(**changed: Any) -> dict[str, Any]:
    """Claims of a good token, with changes; small times are seconds from now."""
    now = int(time.time())
    made = {"aud": "page", "sub": "u", "anonymous_id": "a", "iat": 0, "exp": 600} | changed
    for name in ("iat", "exp"):
        if type(made[name]) is int and made[name] < 10_000:
            made[name] += now
    return {name: value for name, value in made.items() if value is not None}


def signed(**changed: Any) -> str:
    return jwt.encode(claims(**changed), _private_key(KEY), "EdDSA", KID)


def test_a_token_proves_one_user_for_one_anonymous_id() -> None:
    token = signed_user(KEY, "u", "a", 600)
    assert tokens().doubt(token, "u", "a") is None
    assert tokens().doubt(token, "v", "a") == Unproven.WRONG_USER
    assert tokens().doubt(token, "u", "b") == Unproven.WRONG_ANONYMOUS_ID
    assert tokens().doubt(token, "u", None) == Unproven.WRONG_ANONYMOUS_ID
    assert tokens().doubt(None, "u", "a") == Unproven.NO_TOKEN


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": -100}, "expired"),
        ({"exp": 700}, "too_long"),
        ({"exp": 10**30}, "too_long"),
        ({"iat": 500, "exp": 900}, "too_long"),
        ({"iat": None}, "invalid_token"),
        ({"exp": None}, "invalid_token"),
        ({"exp": "soon"}, "invalid_token"),
        ({"exp": True}, "invalid_token"),
        ({"exp": float("inf")}, "invalid_token"),
        ({"aud": "slipstream"}, "wrong_audience"),
        ({"aud": ["page"]}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"sub": None}, "wrong_user"),
        ({"sub": 5}, "wrong_user"),
        ({"anonymous_id": None}, "wrong_anonymous_id"),
        ({"anonymous_id": ["a"]}, "wrong_anonymous_id"),
    ],
)
def test_a_token_with_other_claims_proves_nothing_and_tells_why(
    changed: dict[str, Any], reason: str
) -> None:
    assert tokens().doubt(signed(**changed), "u", "a") == reason


SHARED = "x" * 64


@pytest.mark.parametrize(
    "forge",
    [
        lambda: jwt.encode(claims(), SHARED, "HS256", KID),
        lambda: jwt.encode(claims(), public_key_of(KEY), "HS256", KID),
        lambda: jwt.encode(claims(), None, "none", KID),
        lambda: jwt.encode(claims(), _private_key("another key"), "EdDSA", KID),
        lambda: signed()[:-8] + "AAAAAAAA",
        lambda: "a.b.c",
        lambda: "",
        lambda: "x" * 5_000,
        lambda: 5,
        lambda: {"a": 1},
    ],
)
def test_what_the_key_has_not_signed_proves_nothing(forge: Callable[[], Any]) -> None:
    assert tokens().doubt(forge(), "u", "a") == Unproven.INVALID_TOKEN


def test_only_a_key_that_counts_and_may_identify_signs() -> None:
    token, now = signed_user(KEY, "u", "a", 600), int(time.time() * 1000)
    assert tokens(expires_at=now + 60_000).doubt(token, "u", "a") is None
    for other in (
        tokens(revoked_at=now),
        tokens(expires_at=now),
        tokens(scope=Scope.EVENTS),
        tokens(page_key=""),
        PageTokens(KeyRing()),
    ):
        assert other.doubt(token, "u", "a") == Unproven.UNKNOWN_KEY


def test_a_topic_gives_nothing_to_sign_with() -> None:
    record = key_record(KEY, [Scope.IDENTIFY], name="shop", page_key=public_key_of(KEY))
    assert KEY not in record.model_dump_json()
    with pytest.raises(jwt.InvalidKeyError):
        jwt.encode(claims(), record.page_key, "EdDSA", KID)
