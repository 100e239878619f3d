"""Sending of export files through ingestion's REST API: items first, then events by time.

Events go through `/v1/import`, at any age, as Segment track calls. Those of one visitor stay in
order. Message ids are made from the events themselves, so a file sent twice has the same ids, and
what the lake has already adds nothing (docs/adr/0059).
"""

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

import httpx
import orjson

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.datasets.imports.conversion import Event, Item, Rejection
from slipstream.datasets.imports.lanes import Lane, paced
from slipstream.datasets.imports.ordering import in_order
from slipstream.datasets.imports.surveys import Export, Refused, Survey
from slipstream.datasets.upload import bodies, post

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
        url: Its address.
        write_key: Its write key.
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
) -> ReplayReport:
    """Send the files' items, then their events, file by file.

    Answers of 429 and 503 and broken connections are tried again with growing pauses (or
    `Retry-After`).

    Args:
        exports: The files with their surveys, in which no question is open.
        target: The service.
        progress: Called with the progress, from this thread.
        refused: Called with each row that is rejected, here or by ingestion.

    Raises:
        ReplayError: Retries do not help, or the write key is refused.
        ImportFileError: A file can't be read on.
    """
    return asyncio.run(_send(exports, target, progress, refused))


async def _send(
    exports: Sequence[tuple[Export, Survey]],
    target: Target,
    progress: Progress | None,
    refused: Refused,
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
                upload = _Upload(client, report, export, total, progress, refused)
                await (upload.items() if kind == "items" else upload.events(target))
    return report


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
    ) -> None:
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
        while portion := list[Item](islice(entries, _ITEMS_A_BODY)):
            encoded = (_encode(item.entry) for item in portion)
            rest = portion
            for body, count in bodies(encoded, "items", _ITEMS_A_BODY):
                verdicts = await post(self._client, "/v1/items", body)
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
        report.accepted += verdicts["accepted"]
        report.duplicates += verdicts["duplicates"]
        report.rejected += verdicts["rejected"]
        for verdict in _rejected(verdicts):
            report.rejected_by_code[verdict["code"]] += 1
            event = events[verdict["index"]]
            self._tell(event.line, verdict, {"userId": event.visitor, **event.call["properties"]})
        if self._progress is not None:
            self._progress(ProgressStep("events", report.events, self._total))

    def _tell(self, line: int, verdict: dict[str, Any], cells: dict[str, Any]) -> None:
        at_fault = str(verdict.get("field") or "").removeprefix("properties.")
        rejection = Rejection(
            line,
            verdict["code"],
            self._export.understanding.column_of(at_fault),
            verdict.get("reason") or "",
            cells,
        )
        self._refused(self._export.file.name, rejection)


def _rejected(verdicts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if verdicts["rejected"]:
        yield from (v for v in verdicts["results"] if v["status"] == "rejected")


def _encode(value: Any) -> bytes:
    return orjson.dumps(value, default=str)
