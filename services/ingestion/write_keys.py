"""Write keys: each has a name, which becomes the source of what comes in with it. Held hashed."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Iterable

from slipstream.chassis.logging import get_logger
from slipstream.stores.write_keys import StoredKey, digest_of

log = get_logger(__name__)

# How soon a key that was made, rotated or revoked by command counts.
REFRESH_S = 3.0


class WriteKeys:
    """The keys that may write, from `name:key,name2:key2` and those made by command
    (`replace_stored`).

    Raises ValueError when there is none, or a name or a key is empty or given twice. A key may hold
    a colon, but no comma.
    """

    def __init__(self, configured: str) -> None:
        self._configured: dict[str, str] = {}
        self._stored: dict[str, StoredKey] = {}
        for entry in filter(None, map(str.strip, configured.split(","))):
            name, _, key = entry.partition(":")
            if not name or not key:
                raise ValueError(
                    "SLIPSTREAM_INGESTION__WRITE_KEYS: each entry is name:key, several separated by commas"
                )
            digest = digest_of(key)
            if name in self._configured.values() or digest in self._configured:
                raise ValueError(
                    f"SLIPSTREAM_INGESTION__WRITE_KEYS: {name}: a name and a key may each appear once"
                )
            self._configured[digest] = name
        if not self._configured:
            raise ValueError(
                "SLIPSTREAM_INGESTION__WRITE_KEYS is not set: give at least one name:key"
            )

    def name_of(self, key: str) -> str | None:
        """The name that this key belongs to, or None. How long the look-up takes says something of
        the digest alone, from which nobody finds a key.
        """
        digest = digest_of(key)
        name = self._configured.get(digest)
        if (
            name is None
            and (stored := self._stored.get(digest)) is not None
            and stored.valid(int(time.time() * 1000))
        ):
            name = stored.name
        return name

    def replace_stored(self, keys: Iterable[StoredKey]) -> None:
        """Take these for all keys that were made by command."""
        self._stored = {key.digest: key for key in keys}


async def follow_stored(keys: WriteKeys, read: Callable[[], Awaitable[list[StoredKey]]]) -> None:
    """Keep the keys that were made by command up to date, until cancelled; the last known ones
    count while they can't be read.
    """
    failing = False
    while True:
        try:
            keys.replace_stored(await read())
            failing = False
        except Exception as error:
            if not failing:
                log.warning("write keys can't be read; those known so far count", reason=str(error))
            failing = True
        await asyncio.sleep(REFRESH_S)


def key_in_header(authorization: str) -> str | None:
    """The write key in a Basic `Authorization` header, where it is the user name, as Segment's SDKs
    send it.
    """
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0] or None
    except ValueError:  # no Base64, not even ASCII, or no text
        return None
