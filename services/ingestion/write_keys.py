"""Write keys. Each has a name, which becomes the source of its events. Only digests are held."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable

from slipstream.chassis.logging import get_logger
from slipstream.contracts.times import now_ms
from slipstream.stores.write_keys import StoredKey, digest_of

log = get_logger(__name__)

# Delay after which a key that was made, rotated or revoked by command takes effect.
REFRESH_S = 3.0


class WriteKeys:
    """Valid write keys: configured ones, and those made by command (`replace_stored`).

    `configured` has the form `name:key,name2:key2`. A key may hold a colon, but no comma. Raises
    ValueError if there is no key, or if a name or a key is empty or given twice.
    """

    def __init__(self, configured: str) -> None:
        self._configured: dict[str, str] = {}
        self._stored: dict[str, StoredKey] = {}
        for entry in filter(None, map(str.strip, configured.split(","))):
            name, _, key = entry.partition(":")
            if not name or not key:
                raise ValueError(
                    "SLIPSTREAM_INGESTION__WRITE_KEYS: each entry is name:key, several separated "
                    "by commas"
                )
            digest = digest_of(key)
            if name in self._configured.values() or digest in self._configured:
                raise ValueError(
                    f"SLIPSTREAM_INGESTION__WRITE_KEYS: {name}: a name and a key may each appear "
                    "once"
                )
            self._configured[digest] = name
        if not self._configured:
            raise ValueError(
                "SLIPSTREAM_INGESTION__WRITE_KEYS is not set: give at least one name:key"
            )

    def name_of(self, key: str) -> str | None:
        """The name of this key, or None.

        The time that this takes depends on the key's digest alone, which gives no key away.
        """
        digest = digest_of(key)
        name = self._configured.get(digest)
        if (
            name is None
            and (stored := self._stored.get(digest)) is not None
            and stored.valid(now_ms())
        ):
            name = stored.name
        return name

    def replace_stored(self, keys: Iterable[StoredKey]) -> None:
        """Replace all keys that were made by command."""
        self._stored = {key.digest: key for key in keys}


async def follow_stored(keys: WriteKeys, read: Callable[[], Awaitable[list[StoredKey]]]) -> None:
    """Keep the keys that were made by command up to date, until cancelled.

    While they can't be read, the last known ones stay valid.
    """
    failing = False
    while True:
        try:
            keys.replace_stored(await read())
            failing = False
        except Exception as error:
            if not failing:
                log.warning(
                    "write keys can't be read; the last known ones stay valid", reason=str(error)
                )
            failing = True
        await asyncio.sleep(REFRESH_S)


def key_in_header(authorization: str) -> str | None:
    """The write key in a Basic `Authorization` header: the user name, as Segment's SDKs send it."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0] or None
    except ValueError:  # no Base64, not even ASCII, or no text
        return None
