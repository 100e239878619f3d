"""Lanes of an upload: batches on their way one after the other, and the pace of events."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import httpx
import orjson

from slipstream.datasets.imports.conversion import Event
from slipstream.datasets.imports.event_ids import Repetitions, message_id
from slipstream.datasets.upload import ReplayError, bodies, post

# With a speed, events that fall due within this time travel together.
_TICK_S: Final = 0.05


class Lane:
    """A task that sends its events one batch after the other.

    At most three batches wait in it, so that lanes stay close in time.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        answered: Callable[[Sequence[Event], dict[str, Any]], None],
        batch_size: int,
    ) -> None:
        self._client, self._answered, self._batch_size = client, answered, batch_size
        self._repetitions = Repetitions()
        self._gathering: list[tuple[Event, bytes]] = []
        self._queue: asyncio.Queue[list[tuple[Event, bytes]] | None] = asyncio.Queue(2)
        self._task = asyncio.create_task(self._send())

    async def put(self, event: Event) -> None:
        self._gathering.append((event, self._encoded(event)))
        if len(self._gathering) >= self._batch_size:
            await self.flush()

    async def flush(self) -> None:
        if self._gathering:
            await self._hand_over(self._gathering)
            self._gathering = []

    async def finish(self) -> None:
        await self.flush()
        await self._hand_over(None)
        await self._task

    async def cancel(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError, ReplayError):
            await self._task

    def _encoded(self, event: Event) -> bytes:
        # Equal events are of one visitor, so each lane counts its own.
        number = self._repetitions.number(event.identity, event.timestamp, event.unique)
        identifier = message_id(event.identity, number)
        call = {**event.call, "event": event.event_type, "messageId": identifier}
        return orjson.dumps(call, default=str)

    async def _hand_over(self, batch: list[tuple[Event, bytes]] | None) -> None:
        """Put a batch into the queue. Raises the sender's failure, if any."""
        putting = asyncio.ensure_future(self._queue.put(batch))
        await asyncio.wait({putting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            putting.cancel()
            self._task.result()

    async def _send(self) -> None:
        while (batch := await self._queue.get()) is not None:
            rest = [event for event, _ in batch]
            encoded = (text for _, text in batch)
            for body, count in bodies(encoded, "batch", self._batch_size):
                self._answered(rest[:count], await post(self._client, "/v1/import", body))
                rest = rest[count:]


async def paced(
    events: Iterable[Event], lanes: Sequence[Lane], speed: float | None
) -> AsyncIterator[Event]:
    """The events, each not before it is due.

    While none is due, lanes send their gathered events.
    """
    first: int | None = None
    started = time.perf_counter()
    for event in events:
        if speed is not None:
            first = event.timestamp if first is None else first
            wait = (event.timestamp - first) / 1000 / speed - (time.perf_counter() - started)
            if wait > 0:
                await asyncio.gather(*(lane.flush() for lane in lanes))
                await asyncio.sleep(max(wait, _TICK_S))
        yield event
