"""Write keys made by command: a Redis hash of their digests and names. No key is stored.

Ingestion reads it every few seconds; `slipstream write-keys` writes it.
"""

import hashlib
import secrets
from typing import Any, NamedTuple

import orjson
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.times import now_ms


class StoredKey(NamedTuple):
    """A key's digest, name and times (ms). `expires` and `revoked` are None for never."""

    digest: str
    name: str
    created: int
    expires: int | None = None
    revoked: int | None = None

    def valid(self, at_ms: int) -> bool:
        return self.revoked is None and (self.expires is None or at_ms < self.expires)


def digest_of(key: str) -> str:
    """The digest of a key. Keys are long and random, so a fast hash is as good as a slow one."""
    return hashlib.sha256(key.encode()).hexdigest()


class WriteKeyStore:
    """Reads and changes the hash. Made and used in one event loop.

    Methods raise redis' errors when the server does not answer.
    """

    def __init__(self, settings: RedisSettings, namespace: str) -> None:
        self._key = f"{namespace}:write-keys"
        self._redis: Any = redis.asyncio.Redis.from_url(
            settings.url.get_secret_value(),
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(NoBackoff(), 0),
        )

    async def all(self) -> list[StoredKey]:
        """Every key ever made, oldest first."""
        entries = await self._redis.hgetall(self._key)
        keys = [
            StoredKey(digest.decode(), **orjson.loads(value)) for digest, value in entries.items()
        ]
        return sorted(keys, key=lambda key: key.created)

    async def add(self, name: str) -> str:
        """Make a key of this name; returns the key, which can't be read again."""
        key = secrets.token_urlsafe(24)
        await self._put([StoredKey(digest_of(key), name, now_ms())])
        return key

    async def rotate(self, name: str, grace_ms: int) -> str:
        """Make a key of this name; returns the key.

        The name's other keys end after `grace_ms`, unless they end before.
        """
        key, now = secrets.token_urlsafe(24), now_ms()
        ends = now + grace_ms
        older = [
            stored._replace(expires=min(stored.expires or ends, ends))
            for stored in await self.all()
            if stored.name == name
        ]
        await self._put(
            [
                *(stored for stored in older if stored.revoked is None),
                StoredKey(digest_of(key), name, now),
            ]
        )
        return key

    async def revoke(self, name: str) -> int:
        """End all keys of this name now; returns the number of valid ones."""
        now = now_ms()
        valid = [stored for stored in await self.all() if stored.name == name and stored.valid(now)]
        if valid:
            await self._put([stored._replace(revoked=now) for stored in valid])
        return len(valid)

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def _put(self, keys: list[StoredKey]) -> None:
        fields = {
            key.digest: orjson.dumps(
                {name: value for name, value in key._asdict().items() if name != "digest"}
            )
            for key in keys
        }
        await self._redis.hset(self._key, mapping=fields)
