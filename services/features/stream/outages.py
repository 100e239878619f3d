"""Outages of the stores: reasons for the readiness checks, and the wait for their end."""

import threading
from collections.abc import Callable
from typing import Final

from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.logging import get_logger
from slipstream.stores.lake import INTERACTIONS, Lake, LakeUnavailableError
from slipstream.stores.online import OnlineStore, StoreUnavailableError

log = get_logger(__name__)

_ASK_EVERY_S: Final = 0.25


class StoreOutages:
    """Outages that reading waits for.

    `redis` and `lake` say why a store can't be used; None while it can. The caller clears them
    after a use that succeeded: a Redis that is full or read-only answers, but takes no writes.
    """

    def __init__(self, store: OnlineStore, lake: Lake, watch: ConsumerWatch) -> None:
        self._store, self._lake, self._watch = store, lake, watch
        self.redis: str | None = None
        self.lake: str | None = None

    def wait_for_redis(self, error: StoreUnavailableError, stop: threading.Event) -> bool:
        """Wait until Redis answers; False when `stop` was set before that."""
        self.redis = str(error)
        log.error("the online store can't be written; reading waits", reason=str(error))
        return self._wait(self._store.ping, stop)

    def wait_for_lake(self, error: LakeUnavailableError, stop: threading.Event) -> bool:
        """Wait until the lake answers; False when `stop` was set before that."""
        self.lake = str(error)
        log.error("the lake can't be searched for repeats; reading waits", reason=str(error))
        return self._wait(lambda: self._lake.version(INTERACTIONS), stop)

    def _wait(self, question: Callable[[], object], stop: threading.Event) -> bool:
        while not stop.wait(_ASK_EVERY_S):
            self._watch.update()
            try:
                question()
            except (StoreUnavailableError, LakeUnavailableError):
                continue
            return True
        return False
