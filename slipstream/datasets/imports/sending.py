"""Sending of export files through ingestion's REST API: items first, then events by time.

Events go through `/v1/import`, at any age, as Segment track calls. Message ids are made from the
events themselves, so a file sent twice has the same ids, and what the lake has already adds nothing
(docs/adr/0059).

Files may be larger than memory: chunks of events are sorted in memory and written to a temporary
file each, and the files are merged. Several lanes send batches at a time, and those of one visitor
stay in order, in one lane.
"""

import asyncio
import heapq
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import IO, Any, Final, NamedTuple

import httpx
import orjson

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.datasets.imports.conversion import Event, Item, Rejection, Repetitions, message_id
from slipstream.datasets.imports.surveys import Export, Refused, Survey
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
        name = {"event": event.event_type} if event.call["type"] == "track" else {}
        call = {**event.call, **name, "messageId": identifier}
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
    """The events by their time; those of one time in the order given. `step` gets the number of
    events read so far; `rows_in_memory` are held at once.
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


_ITEMS_A_BODY: Final = 500


@dataclass(slots=True)
class ReplayReport:
    """The result of a replay or an import.

    `rejected` are events that ingestion refused (`rejected_by_code`, its codes) and rows that made
    no event (`unreadable`). `seconds` and the rate are of the events alone.
    """

    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    unreadable: int = 0
    rejected_by_code: Counter[str] = field(default_factory=Counter)
    items: int = 0
    items_rejected: int = 0
    seconds: float = 0.0

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def complete(self) -> bool:
        """Whether nothing was rejected."""
        return not (self.rejected or self.items_rejected)

    @property
    def has_letters(self) -> bool:
        """Whether ingestion rejected something, which is among the dead letters then."""
        return self.rejected + self.items_rejected > self.unreadable


class Target(NamedTuple):
    """An ingestion service, and how it is sent to.

    Attributes:
        speed: Times faster than the timestamps; None for as fast as possible.
        batch_size: Events in one request.
        concurrency: Requests under way at once.
    """

    url: str
    write_key: str
    speed: float | None = None
    batch_size: int = 500
    concurrency: int = 4


def send(
    exports: Sequence[tuple[Export, Survey]],
    target: Target,
    progress: Progress | None = None,
    refused: Refused = lambda _name, _rejection: None,
    known: AbstractSet[int] = frozenset(),
) -> ReplayReport:
    """Send the files' items, then their events, file by file.

    Answers of 429 and 503 and broken connections are tried again with growing pauses (or
    `Retry-After`).

    Args:
        exports: The files with their surveys, in which no question is open.
        refused: Called with each row that is rejected, here or by ingestion.
        known: Hashes of ids of events that were imported before: such events are duplicates,
            whatever ingestion remembers.

    Raises:
        ReplayError: Retries do not help, or the write key is refused.
        ImportFileError: A file can't be read on.
    """
    return asyncio.run(_send(exports, target, progress, refused, known))


async def _send(
    exports: Sequence[tuple[Export, Survey]],
    target: Target,
    progress: Progress | None,
    refused: Refused,
    known: AbstractSet[int],
) -> ReplayReport:
    report = ReplayReport()
    total = sum(
        survey.sendable for export, survey in exports if export.understanding.kind == "events"
    )
    async with httpx.AsyncClient(
        base_url=target.url, auth=(target.write_key, ""), timeout=60
    ) as client:
        for kind in ("items", "events"):
            for export, _ in exports:
                if export.understanding.kind != kind:
                    continue
                upload = _Upload(client, report, export, total, progress, refused, known)
                await (upload.items() if kind == "items" else upload.events(target))
    return report


# Our fields by the names that calls have for them.
_FIELDS: Final = {
    "userId": "user_id", "anonymousId": "anonymous_id", "event": "event_type",
    "messageId": "event_id",
}  # fmt: skip


class _Upload:
    """The upload of one file."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        report: ReplayReport,
        export: Export,
        total: int,
        progress: Progress | None,
        refused: Refused,
        known: AbstractSet[int],
    ) -> None:
        self._known = known
        self._client, self._report, self._export = client, report, export
        self._total, self._progress, self._refused = total, progress, refused

    async def items(self) -> None:
        """Send the items of the file."""
        report = self._report

        def unreadable(rejection: Rejection) -> None:
            report.items_rejected += 1
            report.unreadable += 1
            self._refused(self._export.file.name, rejection)

        entries: Iterator[Any] = self._export.entries(unreadable)
        # A row of an item that the file had before adds to it.
        sent = set[int]()
        while portion := _together(islice(entries, _ITEMS_A_BODY)):
            new = [item for item in portion if hash(item.entry["item_id"]) not in sent]
            known = [item for item in portion if hash(item.entry["item_id"]) in sent]
            await self._put_items(new, "POST")
            await self._put_items(known, "PATCH")
            sent.update(hash(item.entry["item_id"]) for item in new)

    async def _put_items(self, portion: list[Item], method: str) -> None:
        report, rest = self._report, portion
        encoded = (_encode(item.entry) for item in portion)
        if portion:
            for body, count in bodies(encoded, "items", _ITEMS_A_BODY):
                verdicts = await post(self._client, "/v1/items", body, method)
                report.items += verdicts["accepted"]
                report.items_rejected += verdicts["rejected"]
                for verdict in _rejected(verdicts):
                    item = rest[verdict["index"]]
                    self._tell(item.line, verdict, item.entry)
                rest = rest[count:]

    async def events(self, target: Target) -> None:
        """Send the events of the file, in the order of their times."""
        report = self._report

        def unreadable(rejection: Rejection) -> None:
            report.rejected += 1
            report.unreadable += 1
            report.rejected_by_code[rejection.code] += 1
            self._refused(self._export.file.name, rejection)

        began = time.perf_counter()
        lanes = [
            Lane(self._client, self._verdicts, target.batch_size) for _ in range(target.concurrency)
        ]
        rows: Iterator[Any] = self._export.entries(unreadable)
        try:
            async for event in paced(in_order(rows, self._reading), lanes, target.speed):
                # A visitor's events go through one lane, and a lane has one request under way, so
                # that they stay in order.
                await lanes[zlib.crc32(event.visitor.encode()) % target.concurrency].put(event)
            await asyncio.gather(*(lane.finish() for lane in lanes))
        finally:
            for lane in lanes:
                await lane.cancel()
        report.seconds += time.perf_counter() - began

    def _reading(self, rows: int) -> None:
        if self._progress is not None and rows % 50_000 == 0:
            self._progress(ProgressStep("events", self._report.events, self._total))

    def _verdicts(self, events: Sequence[Event], verdicts: dict[str, Any]) -> None:
        report = self._report
        report.events += len(events)
        known = self._known_among(verdicts)
        report.accepted += verdicts["accepted"] - known
        report.duplicates += verdicts["duplicates"] + known
        report.rejected += verdicts["rejected"]
        for verdict in _rejected(verdicts):
            report.rejected_by_code[verdict["code"]] += 1
            event = events[verdict["index"]]
            said = {_FIELDS.get(name, name): value for name, value in event.call.items()}
            said |= {"event_type": event.event_type, **said.pop("properties", {})}
            self._tell(event.line, verdict, said)
        if self._progress is not None:
            self._progress(ProgressStep("events", report.events, self._total))

    def _known_among(self, verdicts: dict[str, Any]) -> int:
        """The number of accepted events that were imported before."""
        if not self._known:
            return 0
        ids = (v["message_id"] for v in verdicts["results"] if v["status"] == "accepted")
        # An event of several products has a row for each.
        return sum(not self._known.isdisjoint({hash(i), hash(f"{i}:0")}) for i in ids)

    def _tell(self, line: int, verdict: dict[str, Any], said: dict[str, Any]) -> None:
        """Tell of a row that ingestion rejected, by the columns that its fields came from."""
        column_of = self._export.understanding.column_of
        path = str(verdict.get("field") or "").removeprefix("properties.")
        at_fault = path.removeprefix("attributes.").partition(".")[0]
        cells = {column_of(name): value for name, value in said.items()}
        rejection = Rejection(
            line,
            verdict["code"],
            column_of(_FIELDS.get(at_fault, at_fault)),
            verdict.get("reason") or "",
            cells,
        )
        self._refused(self._export.file.name, rejection)


def _together(items: Iterator[Item]) -> list[Item]:
    """The items, those of one id as one: what a later row has counts."""
    found: dict[str, Item] = {}
    for item in items:
        first = found.setdefault(item.entry["item_id"], item)
        first.entry.update(item.entry)
    return list(found.values())


def _rejected(verdicts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if verdicts["rejected"]:
        yield from (v for v in verdicts["results"] if v["status"] == "rejected")


def _encode(value: Any) -> bytes:
    return orjson.dumps(value, default=str)
