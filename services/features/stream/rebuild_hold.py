"""Pauses of the stream for a rebuild of the online store."""

import contextlib
import time
from typing import Final

from slipstream.stores.online import OnlineStore, StoreUnavailableError

# A rebuild asks for a pause of 30 s, and waits for half of it.
_ASK_EVERY_S: Final = 0.5


class RebuildHold:
    """The pause that a rebuild asks for, so that the lake comes to where the online store is."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._asked_for, self._ask_at = False, 0.0

    def asked_for(self) -> bool:
        """Whether a rebuild waits. Redis is asked now and then only, since rebuilds are rare."""
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _ASK_EVERY_S
            with contextlib.suppress(StoreUnavailableError):
                self._asked_for = self._store.held()
        return self._asked_for
