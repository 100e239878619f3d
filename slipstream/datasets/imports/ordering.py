"""Events in the order of time, also of files that are larger than memory.

Chunks are sorted in memory and written to a temporary file each, and the files are merged.
"""

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from operator import attrgetter
from typing import IO, Final

import orjson

from slipstream.datasets.imports.conversion import Event

ROWS_IN_MEMORY: Final = 200_000
_WORDS_EVERY: Final = 5_000
# Files open at a time; the rows of more are merged in two steps.
_FAN_IN: Final = 200
_time: Final = attrgetter("timestamp")


def in_order(
    events: Iterable[Event],
    step: Callable[[int], None] = lambda _rows: None,
    rows_in_memory: int = ROWS_IN_MEMORY,
) -> Iterator[Event]:
    """The events by their time; those of one time in the order given.

    Args:
        events: The events.
        step: Called with the number of events read so far.
        rows_in_memory: Events held at once.
    """
    counted = _counted(iter(events), step)
    first = sorted(islice(counted, rows_in_memory), key=_time)
    if len(first) < rows_in_memory:
        yield from first
        return
    with ExitStack() as stack:
        runs = [_spilled(stack, first)]
        del first
        while chunk := sorted(islice(counted, rows_in_memory), key=_time):
            runs.append(_spilled(stack, chunk))
            if len(runs) == _FAN_IN:
                runs = [_spilled(stack, _merged(runs))]
        yield from _merged(runs)


def _counted(events: Iterator[Event], step: Callable[[int], None]) -> Iterator[Event]:
    for number, event in enumerate(events, start=1):
        if number % _WORDS_EVERY == 0:
            step(number)
        yield event


def _merged(runs: list[IO[bytes]]) -> Iterator[Event]:
    return heapq.merge(*map(_read, runs), key=_time)


def _spilled(stack: ExitStack, events: Iterable[Event]) -> IO[bytes]:
    file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    file.writelines(
        # A dataclass with slots is an object of JSON.
        orjson.dumps(event, default=str, option=orjson.OPT_APPEND_NEWLINE)
        for event in events
    )
    file.seek(0)
    return file


def _read(run: IO[bytes]) -> Iterator[Event]:
    for text in run:
        values = orjson.loads(text)
        yield Event(**{**values, "identity": tuple(values["identity"])})
