"""Publication of access keys: from SQL to `access-keys.v1`, whenever the topic lacks some."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from services.monitoring.access.repository import AccessKeyBook
from slipstream.broker.producer import OutgoingRecord
from slipstream.chassis.logging import get_logger
from slipstream.contracts.topics import ACCESS_KEYS

log = get_logger(__name__)

# Seconds until a stop is noticed.
_STOP_SEEN_S: Final = 0.2

Publish = Callable[[Sequence[OutgoingRecord]], Coroutine[Any, Any, None]]


class KeyPublisher:
    """Publishes keys that changed, and all of them where the topic is seen for the first time or
    was made anew.

    `run` is a worker's target. The other methods may be called from any thread.
    """

    def __init__(self, book: AccessKeyBook, publish: Publish) -> None:
        self._book, self._publish = book, publish
        self._waiting, self._renewed = threading.Event(), threading.Event()
        self.wake()

    def wake(self) -> None:
        """Publish keys that changed, at once."""
        self._waiting.set()

    def renew(self) -> None:
        """Publish all keys: the topic may have lost them."""
        self._renewed.set()
        self._waiting.set()

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set. Raises `BrokerUnavailableError`, and goes on when called
        again.
        """
        while not stop.is_set():
            if not self._waiting.wait(_STOP_SEEN_S):
                continue
            self._waiting.clear()
            try:
                self._publish_waiting()
            except BaseException:
                self._waiting.set()
                raise

    def _publish_waiting(self) -> None:
        if self._renewed.is_set():
            self._book.mark_unpublished()
            self._renewed.clear()
        keys = self._book.unpublished()
        asyncio.run(self._publish([OutgoingRecord(ACCESS_KEYS, key.digest, key) for key in keys]))
        self._book.mark_published(keys)
        if keys:
            log.info("access keys published", keys=len(keys))
