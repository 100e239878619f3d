"""Write keys: each has a name, which becomes the source of what comes in with it. Held hashed."""

import base64
import binascii
import hashlib
import hmac


class WriteKeys:
    """The keys that may write, from `name:key,name2:key2`.

    Raises ValueError when there is none, or a name or a key is empty or given twice. A key may hold a colon, but no comma.
    """

    def __init__(self, configured: str) -> None:
        self._digests: dict[bytes, str] = {}
        for entry in filter(None, map(str.strip, configured.split(","))):
            name, _, key = entry.partition(":")
            if not name or not key:
                raise ValueError("SLIPSTREAM_INGESTION__WRITE_KEYS: each entry is name:key, several separated by commas")
            digest = _digest(key)
            if name in self._digests.values() or digest in self._digests:
                raise ValueError(f"SLIPSTREAM_INGESTION__WRITE_KEYS: {name}: a name and a key may each appear once")
            self._digests[digest] = name
        if not self._digests:
            raise ValueError("SLIPSTREAM_INGESTION__WRITE_KEYS is not set: give at least one name:key")

    def name_of(self, key: str) -> str | None:
        """The name that this key belongs to, or None. Takes the same time whichever key it is, or none."""
        given = _digest(key)
        found = None
        for digest, name in self._digests.items():
            if hmac.compare_digest(digest, given):
                found = name
        return found


def key_in_header(authorization: str) -> str | None:
    """The write key in a Basic `Authorization` header, where it is the user name, as Segment's SDKs send it."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0] or None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
