"""Delivery of records to the broker, with a spool on disk while the broker is unavailable."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

from prometheus_client import CollectorRegistry, Gauge

from services.ingestion.spool import Entry, Spool, SpoolFullError
from slipstream.broker.kafka import BrokerUnavailableError, NotAcknowledgedError, RecordRefusedError
from slipstream.broker.producer import Failure, OutgoingRecord
from slipstream.broker.records import encoded
from slipstream.chassis.logging import get_logger
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import CATALOG, DEAD_LETTERS, INTERACTIONS, PEOPLE

log = get_logger(__name__)

TOPICS = {topic.name: topic for topic in (INTERACTIONS, CATALOG, PEOPLE, DEAD_LETTERS)}
# Records that are drained at once. After a kill up to this many stand on their topic twice; the
# second copies are marked as possible repeats.
CHUNK = 500
# Pause between two attempts to drain while the broker does not take records.
PAUSE_S = 0.2
T = TypeVar("T")


class Carrier(Protocol):
    """A way for records to their topics."""

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        """Deliver the records of several callers, and return a failure or None for each caller.

        Records are handed over in the order of calls, before anything is awaited.
        """
        ...


class AwayCarrier(Carrier, Protocol):
    """A carrier that notices when the broker is unavailable."""

    @property
    def away(self) -> bool:
        """Whether publishing would fail at this moment."""
        ...


class SpooledCarrier:
    """A carrier that spools records on disk while the broker is unavailable, to deliver them later.

    While anything is on disk, new records go behind it. That keeps each visitor's records in order.
    """

    def __init__(self, carrier: AwayCarrier, spool: Spool, registry: CollectorRegistry) -> None:
        self._carrier, self._spool = carrier, spool
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._pending: list[tuple[list[Entry], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()
        # The previous process may have ended between delivering a chunk and noting it.
        self._doubtful = not spool.empty
        self._oldest = 0 if spool.empty else now_ms()
        self._full = False
        self._draining: asyncio.Task[None] | None = None
        size = Gauge(
            "slipstream_ingestion_spool_bytes",
            "Bytes of records on disk that the broker does not have yet",
            registry=registry,
        )
        size.set_function(lambda: max(0, spool.waiting_bytes))
        age = Gauge(
            "slipstream_ingestion_spool_age_seconds",
            "Age of the oldest record in the spool; 0 when empty",
            registry=registry,
        )
        age.set_function(lambda: (now_ms() - self._oldest) / 1000 if self._oldest else 0.0)

    def start(self) -> "SpooledCarrier":
        """Start draining records that an earlier process left."""
        if not self._spool.empty:
            self._filled.set()
        self._draining = asyncio.create_task(self._drain())
        return self

    async def publish_each(self, lists: Sequence[Sequence[OutgoingRecord]]) -> list[Failure]:
        """Return when the records are acknowledged by the broker or are on this disk."""
        if self._filled.is_set() or self._carrier.away:
            return await self._keep_each(lists, [None] * len(lists))
        failures = await self._carrier.publish_each(lists)
        return failures if not any(failures) else await self._keep_each(lists, failures)

    @property
    def waiting(self) -> bool:
        """Whether records are on disk, and not on their topics yet."""
        return self._filled.is_set()

    async def check(self) -> None:
        """A readiness check: raises while new records would be refused."""
        if self._full and self._filled.is_set():
            raise SpoolFullError("the spool is full, and the broker does not take what is in it")

    async def aclose(self, limit_s: float) -> None:
        """Drain for up to `limit_s`. The rest stays on disk for the next start."""
        if self._filled.is_set() and not self._carrier.away:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), limit_s)
        if self._draining is not None:
            self._draining.cancel()
            with suppress(asyncio.CancelledError):
                await self._draining
        if self._filled.is_set():
            log.warning("records stay in the spool", bytes=self._spool.waiting_bytes)
        await self._on_disk(self._spool.close)
        self._disk.shutdown(wait=False)

    async def _keep_each(
        self, lists: Sequence[Sequence[OutgoingRecord]], failures: list[Failure]
    ) -> list[Failure]:
        """Spool the records that the broker may take later, and return what failed for good.

        Args:
            lists: The records of each caller.
            failures: The failed attempt to deliver each; all None if no attempt was made.
        """
        attempted = any(failures)
        kept = [
            place
            for place, (records, failure) in enumerate(zip(lists, failures, strict=True))
            if records and (failure is not None or not attempted) and _may_be_kept(failure)
        ]
        entries = [_entry(record, failures[place]) for place in kept for record in lists[place]]
        if not entries:
            return failures
        try:
            await self._append(entries)
        except SpoolFullError as error:
            self._full = True
            full = BrokerUnavailableError(f"the broker is unavailable, and {error}")
            return [full if place in kept else failure for place, failure in enumerate(failures)]
        self._full = False
        return [None if place in kept else failure for place, failure in enumerate(failures)]

    async def _append(self, entries: list[Entry]) -> None:
        """Return when the entries are on disk. Those that come during a write share the next."""
        self._filled.set()
        self._emptied.clear()
        self._oldest = self._oldest or now_ms()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((entries, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        await done

    async def _commit(self) -> None:
        while self._pending:
            pending, self._pending = self._pending, []
            failure: Exception | None = None
            try:
                await self._on_disk(
                    partial(
                        self._spool.append, [entry for entries, _ in pending for entry in entries]
                    )
                )
            except Exception as error:  # of any kind: a caller must not wait for ever
                failure = error
            for _, done in pending:
                if not done.done():
                    if failure is None:
                        done.set_result(None)
                    else:
                        done.set_exception(failure)
        self._committing = None

    async def _drain(self) -> None:
        while True:
            await self._filled.wait()
            try:
                if self._carrier.away or not await self._drain_chunk():
                    await asyncio.sleep(PAUSE_S)
            except OSError as error:
                log.error("the spool can't be read or written", reason=str(error))
                await asyncio.sleep(1.0)

    async def _drain_chunk(self) -> bool:
        """Deliver the next records; False if the broker did not take them."""
        entries, behind = await self._on_disk(partial(self._spool.read, CHUNK))
        if entries:
            self._oldest = entries[0].at
            records = [_outgoing(entry, self._doubtful) for entry in entries]
            (failure,) = await self._carrier.publish_each([records])
            if isinstance(failure, RecordRefusedError):
                # The records before the refused one may have been taken.
                self._doubtful = True
                records = [_outgoing(entry, self._doubtful) for entry in entries]
                failures = await self._carrier.publish_each([[record] for record in records])
                for record, failed in zip(records, failures, strict=True):
                    if isinstance(failed, RecordRefusedError):
                        log.error(
                            "the broker refuses a record, which is lost",
                            topic=record.topic.name,
                            reason=str(failed),
                        )
                failure = next(
                    (
                        failed
                        for failed in failures
                        if failed and not isinstance(failed, RecordRefusedError)
                    ),
                    None,
                )
            if failure is not None:
                self._doubtful = self._doubtful or isinstance(failure, NotAcknowledgedError)
                return False
            # What was sent comes again if the disk does not take the new position.
            self._doubtful = True
            await self._on_disk(partial(self._spool.advance, behind))
            self._doubtful = False
        if self._spool.empty and not self._pending and self._committing is None:
            self._filled.clear()
            self._emptied.set()
            self._full, self._oldest = False, 0
            log.info("the spool is empty")
        return True

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def _may_be_kept(failure: Failure) -> bool:
    """Whether a later attempt may succeed."""
    return failure is None or (
        isinstance(failure, BrokerUnavailableError) and not isinstance(failure, RecordRefusedError)
    )


def _entry(record: OutgoingRecord, failure: Failure) -> Entry:
    value = encoded(record.record) or b""
    return Entry(
        record.topic.name,
        record.key,
        record.request_id,
        isinstance(failure, NotAcknowledgedError),
        now_ms(),
        value.decode(),
    )


def _outgoing(entry: Entry, doubtful: bool) -> OutgoingRecord:
    value = entry.value.encode() or None
    if value and entry.topic == INTERACTIONS.name and (entry.attempted or doubtful):
        # Appended to the JSON object without parsing it: of two equal names the last one counts.
        value = value[:-1] + b',"maybe_repeat":true}'
    return OutgoingRecord(TOPICS[entry.topic], entry.key, value, entry.request_id)
