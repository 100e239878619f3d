"""Reads of keys that are asked for at the same time, gathered into one command."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final

Values = list[bytes | None]
# The keys of a caller, and the answer that it waits for.
Caller = tuple[Sequence[str], asyncio.Future[Values]]

# Keys of one command. A longer one would hold up others on the server, which runs one at a time.
MOST_KEYS: Final = 1_000


class GatheredReads:
    """Reads the keys of all callers in one turn of the event loop by one command.

    The command leaves at the end of the turn, and so nobody waits while nobody else asks. Each
    caller waits alone: one that leaves takes nothing from the others. A failure reaches all whose
    keys were in the command. Used in one event loop.

    Args:
        read: Reads the values of keys, in their order.
    """

    def __init__(self, read: Callable[[list[str]], Awaitable[Values]]) -> None:
        self._read = read
        self._asked: list[Caller] = []
        self._reading: set[asyncio.Future[Values]] = set()

    async def values(self, keys: Sequence[str]) -> Values:
        """The values of these keys, in their order. Raises what `read` raises."""
        if not keys:
            return []
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._send)
        answer: asyncio.Future[Values] = loop.create_future()
        self._asked.append((keys, answer))
        return await answer

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        waiting = [(keys, answer) for keys, answer in asked if not answer.done()]
        for group in _groups(waiting):
            keys = [key for of_caller, _ in group for key in of_caller]
            self._reading.add(read := asyncio.ensure_future(self._read(keys)))
            read.add_done_callback(partial(self._ended, group))

    def _ended(self, group: list[Caller], read: asyncio.Future[Values]) -> None:
        self._reading.discard(read)
        error = None if read.cancelled() else read.exception()
        begin = 0
        for keys, answer in group:
            end = begin + len(keys)
            if answer.done():
                pass  # the caller has left
            elif read.cancelled():
                answer.cancel()
            elif error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(read.result()[begin:end])
            begin = end


def _groups(callers: Sequence[Caller]) -> Iterator[list[Caller]]:
    """Divide callers so that no group has more than `MOST_KEYS` keys, but for one caller's own."""
    group: list[Caller] = []
    size = 0
    for caller in callers:
        if group and size + len(caller[0]) > MOST_KEYS:
            yield group
            group, size = [], 0
        group.append(caller)
        size += len(caller[0])
    if group:
        yield group
