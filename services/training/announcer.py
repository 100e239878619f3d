"""The way of model events from SQL to `model-events.v1`: in order, at least once, by one worker."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from services.training.model_event_repository import ModelEventBook
from slipstream.broker.kafka import BrokerUnavailableError, RecordRefusedError
from slipstream.broker.producer import Outgoing
from slipstream.chassis.logging import get_logger
from slipstream.contracts.topics import MODEL_EVENTS

log = get_logger(__name__)

# How often it is tried again while the broker is away.
RETRY_S: Final = 1.0
# How late a stop is seen.
_STOP_SEEN_S: Final = 0.2

Publish = Callable[[Sequence[Outgoing]], Coroutine[Any, Any, None]]


class Announcer:
    """Tells the topic what the book has and the broker has not acknowledged. `run` is a worker's
    target.
    """

    def __init__(self, book: ModelEventBook, publish: Publish) -> None:
        self._book, self._publish = book, publish
        self._added = threading.Event()

    def wake(self) -> None:
        """Look into the book at once: something was added. Safe from any thread."""
        self._added.set()

    def run(self, stop: threading.Event) -> None:
        """Announce what waits from before, and then whatever is added, until `stop` is set."""
        waiting, told = True, False
        while not stop.is_set():
            if not waiting:
                waiting = self._added.wait(_STOP_SEEN_S)
                continue
            self._added.clear()
            try:
                self.announce()
                waiting = told = False
            except BrokerUnavailableError as error:
                if not told:
                    log.warning("model events wait for the broker", reason=str(error))
                told = True
                stop.wait(RETRY_S)

    def announce(self) -> None:
        """Announce all that waits, one after the other, so that none can overtake another. Raises
        `BrokerUnavailableError` at the first that was not acknowledged: it may stand on the topic
        all the same, and is sent again the next time.
        """
        for waiting in self._book.unannounced():
            event = waiting.event
            try:
                asyncio.run(
                    self._publish([Outgoing(MODEL_EVENTS, event.model, event, waiting.request_id)])
                )
            except RecordRefusedError as error:
                log.error(
                    "the broker will never take this model event",
                    version=event.version,
                    told=event.event,
                    exc_info=error,
                )
            self._book.mark_announced(waiting.number)
