"""The write keys that were made by command: a Redis hash of digests, each with the name it belongs
to. No key is stored.

Ingestion reads it every few seconds; `slipstream write-keys` writes it.
"""

import hashlib
import secrets
import time
from typing import Any, NamedTuple

import orjson
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from slipstream.chassis.settings import RedisSettings


class StoredKey(NamedTuple):
    """A key, without itself. Times are ms; `expires` and `revoked` are None where that is not so."""

    digest: str
    name: str
    created: int
    expires: int | None = None
    revoked: int | None = None

    def valid(self, now_ms: int) -> bool:
        return self.revoked is None and (self.expires is None or now_ms < self.expires)


def digest_of(key: str) -> str:
    """What is kept of a key. Keys are long and random, so that a fast hash is as good as a slow
    one.
    """
    return hashlib.sha256(key.encode()).hexdigest()


class WriteKeyStore:
    """Reads and changes the hash. Made and used in one event loop; raises redis' errors when the
    server does not answer.
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
        """Every key there was, oldest first."""
        entries = await self._redis.hgetall(self._key)
        found = [
            StoredKey(digest.decode(), **orjson.loads(value)) for digest, value in entries.items()
        ]
        return sorted(found, key=lambda key: key.created)

    async def add(self, name: str) -> str:
        """A new key of this name, which is returned and can't be read again."""
        key = secrets.token_urlsafe(24)
        await self._put([StoredKey(digest_of(key), name, _now_ms())])
        return key

    async def rotate(self, name: str, grace_ms: int) -> str:
        """A new key of this name. Those that it had end after `grace_ms`, or when they would have
        ended before.
        """
        key, now = secrets.token_urlsafe(24), _now_ms()
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
        """End all keys of this name now; how many there were."""
        now = _now_ms()
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


def _now_ms() -> int:
    return int(time.time() * 1000)
