"""Lease on erasing from the lake, and the hold of its writers, in Redis.

Both end by themselves, should the process die that took them. Neither is needed for correctness:
two erasers at once do the same work, and a writer that does not see the hold makes a deletion try
again.
"""

import contextlib
import secrets
from typing import Final

from slipstream.chassis.settings import RedisSettings
from slipstream.stores.connection import StoreUnavailableError, connect, translated
from slipstream.stores.keys import Keys

_HOLD_MS: Final = 10_000
_LEASE_MS: Final = 60_000


class LakeLease:
    """The lease and the hold, as one process sees them. Threads may share it."""

    def __init__(self, settings: RedisSettings, namespace: str) -> None:
        self._redis, self._keys = connect(settings), Keys(namespace)
        self._name = secrets.token_hex(8)

    def take(self) -> bool:
        """Take the lease for a minute, or renew it; whether it is this process's now.

        Raises `StoreUnavailableError`.
        """
        with translated():
            if self._redis.set(self._keys.erasing, self._name, px=_LEASE_MS, nx=True):
                return True
            if self._redis.get(self._keys.erasing) != self._name.encode():
                return False
            return bool(self._redis.pexpire(self._keys.erasing, _LEASE_MS))

    def hold(self) -> None:
        """Ask all writers of the lake to wait, for 10 s from now. A lost Redis is passed over."""
        with contextlib.suppress(StoreUnavailableError), translated():
            self._redis.set(self._keys.lake_hold, b"", px=_HOLD_MS)

    def release(self) -> None:
        """Let the writers go on. A lost Redis is passed over: the hold ends by itself."""
        with contextlib.suppress(StoreUnavailableError), translated():
            self._redis.delete(self._keys.lake_hold)

    def held(self) -> bool:
        """Whether writers are to wait; False while Redis is unavailable."""
        with contextlib.suppress(StoreUnavailableError), translated():
            return bool(self._redis.exists(self._keys.lake_hold))
        return False

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
