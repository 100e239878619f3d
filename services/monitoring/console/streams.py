"""Streams of what passes: figures each second, and records as they come, for those who watch.

Nothing is stored. Each stream has a queue; when its client reads too slowly, the oldest records are
dropped and counted. Threads put into it what they read, and one event loop takes it out.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from services.monitoring.console.passing_records import Choice, PassingRecord

MOST_STREAMS: Final = 100
# Most streams of one credential, so that others get in.
MOST_OF_ONE: Final = MOST_STREAMS // 2
# Records that wait for one client, and their bytes.
QUEUE: Final = 200
QUEUE_BYTES: Final = 1_048_576
# Records that are decoded in a second, of all topics, whoever watches.
MOST_PER_S: Final = 2_000

# Writes an event: its name, the id that a client shows when it comes back, and its JSON.
Format = Callable[[str, str, bytes], bytes]


class TooManyStreamsError(Exception):
    """There are `MOST_STREAMS` streams, or `MOST_OF_ONE` of a credential."""


class Stream:
    """The events of one client, written and waiting. Safe to fill from several threads."""

    def __init__(
        self,
        choice: Choice | None,
        figures: bool,
        may_go_on: Callable[[], bool],
        holder: str = "",
    ) -> None:
        """
        Args:
            choice: The records to show; None for none at all.
            may_go_on: Whether the client's credential still counts. Called in the event loop.
            holder: The credential's name; empty where none is needed.
        """
        self.choice, self.figures, self.may_go_on = choice, figures, may_go_on
        self.holder = holder
        self.is_over = False
        self._loop = asyncio.get_running_loop()
        self._wakes = asyncio.Event()
        self._filling = threading.Lock()
        self._told = deque[bytes]()
        self._records = deque[bytes]()
        self._bytes = self._dropped = 0

    def tell(self, event: bytes) -> None:
        """Add an event that is not dropped for records; of a stalled client's, the newest few."""
        with self._filling:
            self._told.append(event)
            if len(self._told) > QUEUE:
                self._told.popleft()
        self._wake()

    def show(self, records: Sequence[bytes]) -> None:
        """Add records; the oldest ones give way."""
        with self._filling:
            for record in records:
                self._records.append(record)
                self._bytes += len(record)
                while len(self._records) > QUEUE or self._bytes > QUEUE_BYTES:
                    self._bytes -= len(self._records.popleft())
                    self._dropped += 1
        self._wake()

    def end(self) -> None:
        """Let the stream end, once what waits was taken."""
        self.is_over = True
        self._wake()

    def dropped(self) -> int:
        """The records that were dropped since the last call."""
        with self._filling:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def take(self) -> bytes:
        """What waits, for the client."""
        with self._filling:
            waiting = b"".join((*self._records, *self._told))
            self._records.clear()
            self._told.clear()
            self._bytes = 0
        return waiting

    async def wait(self, timeout_s: float) -> None:
        """Return when something waits or the stream is over, after `timeout_s` at the latest."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wakes.wait()
        except TimeoutError:
            return
        self._wakes.clear()

    def _wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wakes.set)


class Streams:
    """All streams. `write` writes an event for the wire."""

    def __init__(self, write: Format, clock: Callable[[], int]) -> None:
        """Without any stream. `clock` tells the time in ms."""
        self._write, self._clock = write, clock
        self._changing = threading.Lock()
        self._open: dict[Stream, None] = {}
        self._is_over = False
        self._shown = self._passed = 0

    def open(
        self,
        choice: Choice | None,
        figures: bool,
        may_go_on: Callable[[], bool],
        holder: str = "",
    ) -> Stream:
        """A new stream, to be closed. Its arguments are those of `Stream`. Raises
        `TooManyStreamsError`.
        """
        stream = Stream(choice, figures, may_go_on, holder)
        with self._changing:
            own = sum(each.holder == holder for each in self._open) if holder else 0
            if len(self._open) >= MOST_STREAMS or own >= MOST_OF_ONE:
                raise TooManyStreamsError
            if self._is_over:
                stream.end()
            self._open[stream] = None
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream."""
        with self._changing:
            self._open.pop(stream, None)

    def end(self) -> None:
        """End all streams, and those that begin from now on."""
        with self._changing:
            self._is_over = True
            streams = list(self._open)
        for stream in streams:
            stream.tell(self._write("end", str(self._clock()), b"{}"))
            stream.end()

    @property
    def watched(self) -> bool:
        """Whether there is any stream."""
        return bool(self._open)

    def topics(self) -> frozenset[str | None]:
        """The topics that records are wanted of, None for all; empty where none are wanted."""
        wanted = {each.choice.topic for each in self._streams() if each.choice is not None}
        return frozenset({None} if None in wanted else wanted)

    def show(self, records: Sequence[PassingRecord], passed: int) -> None:
        """Show records to those who want them, of `passed` that have passed."""
        with self._changing:
            self._shown += len(records)
            self._passed += passed
        at, written = str(self._clock()), dict[int, bytes]()
        of_choice = dict[Choice, list[bytes]]()
        for stream in self._streams():
            choice = stream.choice
            if choice is None:
                continue
            if choice not in of_choice:
                wanted = [place for place, record in enumerate(records) if choice.takes(record)]
                for place in wanted:
                    if place not in written:
                        written[place] = self._write("record", at, records[place].to_json())
                of_choice[choice] = [written[place] for place in wanted]
            if of_choice[choice]:
                stream.show(of_choice[choice])

    def tick(self, figures: dict[str, object]) -> None:
        """Tell figures, and of how many records of the last second some were left out."""
        with self._changing:
            shown, passed = self._shown, self._passed
            self._shown = self._passed = 0
        at = str(self._clock())
        told = self._write("figures", at, orjson.dumps(figures))
        for stream in self._streams():
            if stream.figures:
                stream.tell(told)
            if stream.choice is None:
                continue
            dropped = stream.dropped()
            if dropped or passed > shown:
                left = {"shown": shown, "of": max(passed, shown), "dropped": dropped}
                stream.tell(self._write("left_out", at, orjson.dumps(left)))

    def _streams(self) -> list[Stream]:
        with self._changing:
            return list(self._open)
