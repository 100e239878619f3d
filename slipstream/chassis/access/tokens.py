"""Signed tokens (JWT): verified by a public key or a shared secret, and made for services' calls.

A token is verified once; the service remembers its holder until it ends, or until the file of
public keys changes.
"""

import hmac
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipstream.chassis.access.keys import KnownKey, digest_of
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import AccessSettings, ServiceSettings
from slipstream.contracts.access import Principal, Scope
from slipstream.contracts.times import now_ms

log = get_logger(__name__)

SERVICE_TOKEN_S: Final = 300
# How far clocks of different machines may stand apart.
_LEEWAY_S: Final = 30
# Tokens that are remembered at once. With more of them some are verified again.
_REMEMBERED: Final = 1_024
# Pause between two looks at whether the file of public keys has changed.
_LOOK_S: Final = 5.0
_SHARED: Final = "HS256"
_PEM_ALGORITHMS: Final = {
    RSAPublicKey: "RS256",
    EllipticCurvePublicKey: "ES256",
    Ed25519PublicKey: "EdDSA",
}

# RFC 7519's NumericDate, in seconds: up to the year 9999, the last that a date can name.
_Seconds = Annotated[int | float, Field(ge=0, le=253_402_300_799, allow_inf_nan=False)]


class TokenKeysError(ValueError):
    """The file of public keys can't be read, or holds none."""


class VerifyingKey(NamedTuple):
    """A public key, and the one algorithm that it verifies."""

    key: Any
    algorithm: str


class _Claims(BaseModel):
    """The claims that are used, by type and range. PyJWT compares them with time and settings."""

    model_config = ConfigDict(strict=True)

    iss: str
    aud: str | list[str]
    sub: Annotated[str, Field(min_length=1, max_length=256)]
    exp: _Seconds
    nbf: _Seconds = 0
    iat: _Seconds = 0
    scope: str | list[str] = ""


class TokenVerifier:
    """Verifies tokens: signature, issuer, audience, end; and reads their subject and scopes."""

    def __init__(self, settings: AccessSettings) -> None:
        """Reads the file of public keys, where there is one. Raises `TokenKeysError`."""
        self._settings = settings
        self._secret = settings.token_secret.get_secret_value()
        self._path = Path(settings.token_keys) if settings.token_keys else None
        self._keys: dict[str | None, VerifyingKey] = {}
        # The file's time of change and size, when it was read.
        self._stamp = 0, 0
        self._looked_at = time.monotonic()
        self._remembered: dict[str, KnownKey] = {}
        if self._path is not None:
            self._read(self._path)

    def find(self, token: str) -> KnownKey | None:
        """The holder of a token; None where it is wrong or has ended."""
        if self._path is not None and time.monotonic() >= self._looked_at + _LOOK_S:
            self._read_where_changed(self._path)
        digest, now = digest_of(token), now_ms()
        found = self._remembered.get(digest)
        if found is None:
            found = self._verified(token)
            if found is not None:
                if len(self._remembered) >= _REMEMBERED:
                    self._remembered.clear()
                self._remembered[digest] = found
        return found if found is not None and (found.ends_at or 0) > now else None

    def mark_of(self, token: str) -> str:
        """A mark of the key that signs a token, of its issuer and audience; "" for an unknown key.

        It is an HMAC, from which no secret follows.
        """
        try:
            key = self._key_of(jwt.get_unverified_header(token))
        except jwt.PyJWTError:
            return ""
        return self._mark(key) if key is not None else ""

    def takes(self, mark: str) -> bool:
        """Whether tokens of this mark are still taken: their key is among the present ones."""
        if self._path is not None and time.monotonic() >= self._looked_at + _LOOK_S:
            self._read_where_changed(self._path)
        keys = [*self._keys.values()]
        if self._secret:
            keys.append(VerifyingKey(self._secret, _SHARED))
        return any(hmac.compare_digest(self._mark(key), mark) for key in keys)

    def _mark(self, key: VerifyingKey) -> str:
        said = "\n".join((self._settings.token_issuer, self._settings.token_audience))
        raw = (
            key.key.encode()
            if isinstance(key.key, str)
            else key.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
        return hmac.new(raw, said.encode(), "sha256").hexdigest()

    def _verified(self, token: str) -> KnownKey | None:
        try:
            header = jwt.get_unverified_header(token)
            key = self._key_of(header)
            if key is None:
                return None
            decoded = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._settings.token_audience,
                issuer=self._settings.token_issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "sub", "iss", "aud"]},
            )
            claims = _Claims.model_validate(decoded)
        except ValidationError as error:
            # Without the values: a claim may name somebody.
            faults = (f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors())
            log.info("a token is refused", reason="; ".join(faults))
            return None
        except jwt.PyJWTError as error:
            log.info("a token is refused", reason=str(error))
            return None
        names = claims.scope.split() if isinstance(claims.scope, str) else claims.scope
        scopes = frozenset(scope for scope in Scope if scope.value in names)
        ends_at = int((claims.exp + _LEEWAY_S) * 1000)
        return KnownKey(Principal(claims.sub, scopes, browser=False), ends_at=ends_at)

    def _key_of(self, header: dict[str, Any]) -> VerifyingKey | None:
        """The key that the token says it is signed with: its algorithm must be that key's."""
        algorithm, name = header.get("alg"), header.get("kid")
        if algorithm == _SHARED:
            return VerifyingKey(self._secret, _SHARED) if self._secret else None
        if self._path is None:
            return None
        found = self._look_up(name)
        if found is None:
            self._read_where_changed(self._path)
            found = self._look_up(name)
        return found if found is not None and found.algorithm == algorithm else None

    def _look_up(self, name: str | None) -> VerifyingKey | None:
        if name not in self._keys and len(self._keys) == 1:
            # A key in PEM has no name, and a single one needs none.
            ((only, key),) = self._keys.items()
            return key if only is None or name is None else None
        return self._keys.get(name)

    def _read_where_changed(self, path: Path) -> None:
        """Read the keys again if the file has changed; those before stay where that fails."""
        self._looked_at = time.monotonic()
        try:
            if path.exists() and _stamp(path) != self._stamp:
                self._read(path)
        except (OSError, TokenKeysError) as error:
            log.warning("the keys of tokens can't be read again", reason=str(error))

    def _read(self, path: Path) -> None:
        try:
            self._stamp = _stamp(path)
            keys = _public_keys(path.read_text("utf-8"))
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise TokenKeysError(f"SLIPSTREAM_ACCESS__TOKEN_KEYS: {path}: {error}") from error
        if not keys:
            raise TokenKeysError(f"SLIPSTREAM_ACCESS__TOKEN_KEYS: {path} holds no public key")
        self._keys = keys
        # Some tokens may be signed by a key that is no longer among them.
        self._remembered.clear()


def service_credential(
    settings: ServiceSettings, name: str, scopes: Sequence[Scope] = (Scope.READ,)
) -> Callable[[], str]:
    """The credential that a service shows to its peers: a token of five minutes with these scopes,
    where services share a secret; else the API token.
    """
    access = settings.access
    secret = access.token_secret.get_secret_value()
    if not secret:
        api_token = settings.http.api_token.get_secret_value()
        return lambda: api_token
    made, ends_at = "", 0.0

    def credential() -> str:
        nonlocal made, ends_at
        now = time.time()
        # A token that a request takes along still holds a minute.
        if now > ends_at - 60:
            ends_at = now + SERVICE_TOKEN_S
            made = signed(access, f"service:{name}", scopes, SERVICE_TOKEN_S)
        return made

    return credential


def signed(access: AccessSettings, subject: str, scopes: Sequence[Scope], seconds: int) -> str:
    """A token that the shared secret signs."""
    now = int(time.time())
    claims = {
        "iss": access.token_issuer,
        "aud": access.token_audience,
        "sub": subject,
        "scope": " ".join(scopes),
        "iat": now,
        "exp": now + seconds,
    }
    return jwt.encode(claims, access.token_secret.get_secret_value(), _SHARED)


def _stamp(path: Path) -> tuple[int, int]:
    """What changes with a file: its time of change in nanoseconds, and its size."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _public_keys(text: str) -> dict[str | None, VerifyingKey]:
    """The public keys of a JWKS by their names, or the key in PEM, which has none."""
    if not text.lstrip().startswith("{"):
        key = load_pem_public_key(text.encode())
        for kind, algorithm in _PEM_ALGORITHMS.items():
            if isinstance(key, kind) and _curve_of(key) in ("", "secp256r1"):
                return {None: VerifyingKey(key, algorithm)}
        raise ValueError("take an RSA, P-256 or Ed25519 key")
    return {
        key.key_id: VerifyingKey(key.key, key.algorithm_name)
        for key in jwt.PyJWKSet.from_json(text).keys
        if key.key_type != "oct" and key.public_key_use != "enc"
    }


def _curve_of(key: Any) -> str:
    """The name of an elliptic curve's key; empty for other keys, and for Ed25519."""
    return getattr(getattr(key, "curve", None), "name", "")
