"""The replay of an interaction file through ingestion's REST API, as a shop would send its history.

Events go through `/v1/import`, at any age, in the order of their timestamps, as Segment track
calls. Events of one visitor stay in order. Message ids are made from the events themselves, so that
a file sent twice has the same ids. What comes again within the window of repeats (24 h) counts
once.
"""

import asyncio
import hashlib
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pyarrow as pa

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.datasets.interactions import read_interactions, read_items

# Stay below what ingestion takes in one body.
MAX_BODY_BYTES = 400_000
ITEMS_A_BODY = 500
ATTEMPTS = 10
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
# With a speed, events that fall due within this time travel together.
TICK_S = 0.05
FIELDS = ("user_id", "item_id", "event_type", "timestamp")


class ReplayError(RuntimeError):
    """Ingestion can't be reached, or refuses everything. The message says what to do."""


@dataclass(slots=True)
class ReplayReport:
    """The result of a replay. `rejected_by_code` has ingestion's codes.

    `seconds` and the rate are of the events alone.
    """

    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejected_by_code: Counter[str] = field(default_factory=Counter)
    items: int = 0
    items_rejected: int = 0
    seconds: float = 0.0

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0


def replay(
    path: str | Path,
    *,
    url: str,
    write_key: str,
    items: str | Path | None = None,
    speed: float | None = None,
    batch_size: int = 500,
    concurrency: int = 4,
    progress: Progress | None = None,
) -> ReplayReport:
    """Send the events of `path`, after the items of `items`, to the ingestion service at `url`.

    Answers of 429 and 503 and broken connections are tried again with growing pauses (or
    `Retry-After`).

    Args:
        path: The interaction file.
        url: Address of ingestion.
        write_key: Ingestion's write key.
        items: The item file, if any.
        speed: Times faster than the timestamps; None sends as fast as possible.
        batch_size: Events in one request.
        progress: Called with the progress, from this thread.

    Raises:
        ReplayError: Retries do not help, or the write key is refused.
        InteractionFileError: A file is not in the format.
    """
    if speed is not None and speed <= 0:
        raise ValueError("speed must be above 0")
    events = read_interactions(path).sort_by("timestamp")
    catalogue = read_items(items) if items is not None else None
    return asyncio.run(
        _replay(events, catalogue, url, write_key, speed, batch_size, concurrency, progress)
    )


async def _replay(
    events: pa.Table,
    catalogue: pa.Table | None,
    url: str,
    write_key: str,
    speed: float | None,
    batch_size: int,
    concurrency: int,
    progress: Progress | None,
) -> ReplayReport:
    report = ReplayReport()
    async with httpx.AsyncClient(base_url=url, auth=(write_key, ""), timeout=60) as client:
        if catalogue is not None:
            for body, _ in bodies(map(_encode, catalogue.to_pylist()), "items", ITEMS_A_BODY):
                verdicts = await post(client, "/v1/items", body)
                report.items += verdicts["accepted"]
                report.items_rejected += verdicts["rejected"]
        started = time.perf_counter()
        lanes = [
            _Lane(client, report, batch_size, events.num_rows, progress) for _ in range(concurrency)
        ]
        try:
            async for visitor, encoded in _paced(events, lanes, speed):
                # A visitor's events go through one lane, and a lane has one request under way, so
                # that they stay in order.
                await lanes[zlib.crc32(visitor.encode()) % concurrency].put(encoded)
            await asyncio.gather(*(lane.finish() for lane in lanes))
        finally:
            for lane in lanes:
                await lane.cancel()
        report.seconds = time.perf_counter() - started
    return report


class _Lane:
    """A thread that sends its events one batch after the other.

    At most three batches wait in it, so that lanes stay close in time.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        report: ReplayReport,
        batch_size: int,
        total: int,
        progress: Progress | None,
    ) -> None:
        self._client, self._report, self._batch_size = client, report, batch_size
        self._total, self._progress = total, progress
        self._gathering: list[bytes] = []
        self._queue: asyncio.Queue[list[bytes] | None] = asyncio.Queue(2)
        self._task = asyncio.create_task(self._send())

    async def put(self, encoded: bytes) -> None:
        self._gathering.append(encoded)
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

    async def _hand_over(self, batch: list[bytes] | None) -> None:
        """Put a batch into the queue. Raises the sender's failure, if any."""
        putting = asyncio.ensure_future(self._queue.put(batch))
        await asyncio.wait({putting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            putting.cancel()
            self._task.result()

    async def _send(self) -> None:
        while (batch := await self._queue.get()) is not None:
            for body, count in bodies(iter(batch), "batch", self._batch_size):
                self._add(await post(self._client, "/v1/import", body), count)

    def _add(self, verdicts: dict[str, Any], count: int) -> None:
        report = self._report
        report.events += count
        report.accepted += verdicts["accepted"]
        report.duplicates += verdicts["duplicates"]
        report.rejected += verdicts["rejected"]
        if verdicts["rejected"]:
            report.rejected_by_code.update(
                v["code"] for v in verdicts["results"] if v["status"] == "rejected"
            )
        if self._progress is not None:
            self._progress(ProgressStep("events", report.events, self._total))


async def _paced(
    events: pa.Table, lanes: list[_Lane], speed: float | None
) -> AsyncIterator[tuple[str, bytes]]:
    """The events, each not before it is due.

    While none is due, lanes send their gathered events.
    """
    first: int | None = None
    started = time.perf_counter()
    for visitor, timestamp, encoded in _track_calls(events):
        if speed is not None:
            first = timestamp if first is None else first
            wait = (timestamp - first) / 1000 / speed - (time.perf_counter() - started)
            if wait > 0:
                await asyncio.gather(*(lane.flush() for lane in lanes))
                await asyncio.sleep(max(wait, TICK_S))
        yield visitor, encoded


def _track_calls(events: pa.Table) -> Iterator[tuple[str, int, bytes]]:
    """Visitor, timestamp and encoded track call of each event.

    Columns without a field of their own become properties.
    """
    extra = [name for name in events.column_names if name not in FIELDS]
    now: int | None = None
    alike: Counter[tuple[str, ...]] = Counter()
    for chunk in events.to_batches(max_chunksize=10_000):
        columns = [chunk.column(name).to_pylist() for name in (*FIELDS, *extra)]
        for visitor, item, event_type, timestamp, *others in zip(*columns, strict=True):
            if timestamp != now:
                now = timestamp
                alike.clear()
            same = (visitor, item or "", event_type)
            alike[same] += 1
            properties = {
                name: value for name, value in zip(extra, others, strict=True) if value is not None
            }
            if item is not None:
                properties["item_id"] = item
            identity = "\0".join((*same, str(timestamp), str(alike[same])))
            call = {
                "type": "track",
                "event": event_type,
                "userId": visitor,
                "messageId": hashlib.blake2b(identity.encode(), digest_size=16).hexdigest(),
                "timestamp": timestamp,
                "properties": properties,
            }
            yield visitor, timestamp, _encode(call)


def _encode(value: Any) -> bytes:
    return orjson.dumps(value, default=str)


def bodies(encoded: Iterator[bytes], name: str, most: int) -> Iterator[tuple[bytes, int]]:
    """Bodies `{name: […]}` with their numbers of entries.

    A body has at most `most` entries and about `MAX_BODY_BYTES`.
    """

    def body() -> bytes:
        return b'{"%b":[%b]}' % (name.encode(), b",".join(gathered))

    gathered: list[bytes] = []
    size = 0
    for entry in encoded:
        if gathered and (len(gathered) >= most or size + len(entry) > MAX_BODY_BYTES):
            yield body(), len(gathered)
            gathered, size = [], 0
        gathered.append(entry)
        size += len(entry) + 1
    if gathered:
        yield body(), len(gathered)


async def post(client: httpx.AsyncClient, path: str, body: bytes) -> dict[str, Any]:
    """The verdicts on a body, after as many attempts as it takes."""
    pause = FIRST_PAUSE_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = await client.post(
                path, content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.TransportError as error:
            complaint, wait = f"ingestion at {client.base_url} can't be reached: {error!r}", None
        else:
            if response.status_code == 200:
                verdicts: dict[str, Any] = orjson.loads(response.content)
                return verdicts
            complaint = (
                f"ingestion at {client.base_url} answered {response.status_code} to {path}: "
                f"{response.text[:300]}"
            )
            if response.status_code not in (429, 502, 503, 504):
                raise ReplayError(complaint)
            given = response.headers.get("retry-after", "")
            wait = float(given) if given.isdigit() else None
        if attempt < ATTEMPTS:
            await asyncio.sleep(min(pause if wait is None else wait, LONGEST_PAUSE_S))
            pause = min(pause * 2, LONGEST_PAUSE_S)
    raise ReplayError(f"{complaint} (after {ATTEMPTS} attempts)")
