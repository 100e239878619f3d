"""Model events: made, and announced from SQL to `model-events.v1`, in order, at least once."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from services.training.repository import ModelEventBook
from slipstream.broker.kafka import BrokerUnavailableError, RecordRefusedError
from slipstream.broker.producer import OutgoingRecord
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import ModelEvent, ModelEventType
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import MODEL_EVENTS


def event_of(
    kind: ModelEventType,
    version: str,
    alias: str | None,
    *,
    previous: str | None = None,
    reason: str = "",
    metrics: dict[str, float] | None = None,
) -> ModelEvent:
    """An event that happens now.

    Args:
        alias: The alias that moved, if any.
        previous: The version that the alias pointed at.
    """
    return ModelEvent(
        event=kind,
        version=version,
        alias=alias,
        previous=previous,
        reason=reason,
        metrics=metrics or {},
        timestamp=now_ms(),
    )


log = get_logger(__name__)

# Seconds between attempts while the broker is unavailable.
RETRY_S: Final = 1.0
# Seconds until a stop is noticed.
_STOP_SEEN_S: Final = 0.2

Publish = Callable[[Sequence[OutgoingRecord]], Coroutine[Any, Any, None]]


class Announcer:
    """Sends the events that the broker has not acknowledged; `run` is a worker's target.

    `hold` is called before each, and raises where another instance announces by now.
    """

    def __init__(
        self, book: ModelEventBook, publish: Publish, hold: Callable[[], None] = lambda: None
    ) -> None:
        self._book, self._publish, self._hold = book, publish, hold
        self._added = threading.Event()

    def wake(self) -> None:
        """Look for new events at once. Safe from any thread."""
        self._added.set()

    def run(self, stop: threading.Event) -> None:
        """Announce the events that wait, and then each that is added, until `stop` is set."""
        waiting, warned = True, False
        while not stop.is_set():
            if not waiting:
                waiting = self._added.wait(_STOP_SEEN_S)
                continue
            self._added.clear()
            try:
                self.announce()
                waiting = warned = False
            except BrokerUnavailableError as error:
                if not warned:
                    log.warning("model events wait for the broker", reason=str(error))
                warned = True
                stop.wait(RETRY_S)

    def announce(self) -> None:
        """Announce all events that wait, one by one, so that none can overtake another.

        Raises `BrokerUnavailableError` at the first that was not acknowledged. It may be on the
        topic all the same, and is sent again the next time.
        """
        for waiting in self._book.unannounced():
            event = waiting.event
            self._hold()
            try:
                asyncio.run(
                    self._publish(
                        [OutgoingRecord(MODEL_EVENTS, event.model, event, waiting.request_id)]
                    )
                )
            except RecordRefusedError as error:
                log.error(
                    "the broker will never take this model event",
                    version=event.version,
                    model_event=event.event,
                    exc_info=error,
                )
            self._book.mark_announced(waiting.number)
