"""Tokens by which a shop's server proves to ingestion and serving who the visitor of a page is.

The shop signs with a private key that follows from its write key. They verify with the public key,
which stands in `access-keys.v1`. Whoever reads that topic can sign nothing.

A token is a JWT (EdDSA): `sub` is the user, `anonymous_id` the page's visitor, `aud` is `page`, and
`kid` the beginning of the write key's digest. It holds for ten minutes at most.
"""

import hashlib
import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from enum import StrEnum
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from slipstream.chassis.access.keys import KEY_ID_LENGTH, KeyRing, digest_of
from slipstream.contracts.access import Scope

AUDIENCE: Final = "page"
LONGEST_S: Final = 600
# How far clocks of different machines may stand apart.
_LEEWAY_S: Final = 30
_ALGORITHM: Final = "EdDSA"
_PURPOSE: Final = b"slipstream page token"
# A longer text is no token of ours.
_MOST_CHARACTERS: Final = 2_048


class Unproven(StrEnum):
    """Reason why what a page says is not proven. Stable: clients branch on it."""

    NO_TOKEN = "no_token"  # noqa: S105
    INVALID_TOKEN = "invalid_token"  # noqa: S105
    UNKNOWN_KEY = "unknown_key"
    EXPIRED = "expired"
    TOO_LONG = "too_long"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_USER = "wrong_user"
    WRONG_ANONYMOUS_ID = "wrong_anonymous_id"


def public_key_of(write_key: str) -> str:
    """The public key that verifies a write key's tokens, in URL-safe Base64."""
    return urlsafe_b64encode(_private_key(write_key).public_key().public_bytes_raw()).decode()


def signed_user(
    write_key: str, user_id: str, anonymous_id: str, seconds: int, at: float | None = None
) -> str:
    """A token which says that the page's visitor is the user. The write key has the scope
    `identify`. Ingestion refuses more `seconds` than `LONGEST_S`; `at` is in seconds since the
    epoch.
    """
    now = int(time.time() if at is None else at)
    claims = {
        "aud": AUDIENCE,
        "sub": user_id,
        "anonymous_id": anonymous_id,
        "iat": now,
        "exp": now + seconds,
    }
    headers = {"kid": digest_of(write_key)[:KEY_ID_LENGTH]}
    return jwt.encode(claims, _private_key(write_key), _ALGORITHM, headers)


class PageTokens:
    """Verifies the tokens of pages, by the keys that count now."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def doubt(self, token: Any, user_id: str, anonymous_id: str | None) -> Unproven | None:
        """The reason why this token does not prove that the visitor is the user; None if it does.
        `token` is as a page sent it, None where it sent none.
        """
        claims = self._claims_on(token, user_id)
        if isinstance(claims, Unproven):
            return claims
        if anonymous_id is None or claims.get("anonymous_id") != anonymous_id:
            return Unproven.WRONG_ANONYMOUS_ID
        return None

    def user_doubt(self, token: str | None, user_id: str) -> Unproven | None:
        """The same for whoever shows the token, whatever page it was signed for."""
        claims = self._claims_on(token, user_id)
        return claims if isinstance(claims, Unproven) else None

    def _claims_on(self, token: Any, user_id: str) -> dict[str, Any] | Unproven:
        """The claims of a token that is about this user and holds now."""
        if token is None:
            return Unproven.NO_TOKEN
        claims = self._claims(token)
        if isinstance(claims, Unproven):
            return claims
        made, ends, now = claims.get("iat"), claims.get("exp"), time.time()
        if type(made) is not int or type(ends) is not int:
            return Unproven.INVALID_TOKEN
        if claims.get("aud") != AUDIENCE:
            return Unproven.WRONG_AUDIENCE
        if ends < now - _LEEWAY_S:
            return Unproven.EXPIRED
        if ends - made > LONGEST_S or made > now + _LEEWAY_S:
            return Unproven.TOO_LONG
        if claims.get("sub") != user_id:
            return Unproven.WRONG_USER
        return claims

    def _claims(self, token: Any) -> dict[str, Any] | Unproven:
        """The claims of a token that a key which counts has signed."""
        if type(token) is not str or len(token) > _MOST_CHARACTERS:
            return Unproven.INVALID_TOKEN
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            known = self._ring.page_key(key_id) if type(key_id) is str else None
            if known is None or Scope.IDENTIFY not in known.principal.scopes:
                return Unproven.UNKNOWN_KEY
            key = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(known.page_key))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                # The claims are checked by the caller, so that each has its reason.
                options={
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "verify_aud": False,
                    "verify_sub": False,
                },
            )
        except (jwt.PyJWTError, ValueError):
            return Unproven.INVALID_TOKEN
        return claims


def _private_key(write_key: str) -> Ed25519PrivateKey:
    seed = hmac.digest(write_key.encode(), _PURPOSE, hashlib.sha256)
    return Ed25519PrivateKey.from_private_bytes(seed)
