"""The counter: finds the buckets of the lake that have new rows, and counts them again, whole.

A row is new by its offset, so compactions and erasures, which write old rows again, count nothing
twice. A late slate may change the credit of everything after it, so all buckets from its own on are
counted again; so are those that depend on a credit that has changed. What came more than `NAMED_MS`
late is left out, and counted as late.
"""

import threading
import time
from collections import Counter as Multiset
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import Final

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from services.monitoring.counting.credit import (
    BUCKET_MS,
    EVENT_COLUMNS,
    NAMED_MS,
    SLATE_COLUMNS,
    Period,
    PeriodCount,
    Rules,
)
from services.monitoring.counting.outcomes_repository import OutcomeTable, Progress
from slipstream.chassis.logging import get_logger
from slipstream.contracts.positions import source_name
from slipstream.contracts.slates import given_at
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores.lake_reader import LakeReader, LakeUnavailableError, day_of
from slipstream.stores.metadata import DatabaseUnavailableError
from slipstream.stores.tables import CATALOG, INTERACTIONS, RECOMMENDATIONS

log = get_logger(__name__)

# Rows that are counted at once, but for a bucket that has more.
MOST_ROWS: Final = 50_000
# Buckets that are counted at once: an hour.
_MOST_BUCKETS: Final = 12
# The tables of the lake that are counted.
LAKE_TABLES: Final = (INTERACTIONS, RECOMMENDATIONS)
# Share of the time that counting rests, and the longest rest (s): what takes longer is too much for
# the other share, and may have up to a core.
_REST: Final = 0.8
_LONGEST_REST_S: Final = 300.0
_POSITION: Final = ("topic_id", "partition", "offset")
# Ranges of times that slates from before a period are looked for in.
_MOST_RANGES: Final = 24
_RECORDED_MS: Final = 60_000
# Time (ms) by which a row may be ahead of the clock.
_AHEAD_MS: Final = 300_000
_EXPIRE_EVERY_S: Final = 300.0


class Counter:
    """Counts the lake. One thread at a time uses it.

    Args:
        rules: Limits of credit, without their key.
        clock: Returns the time in ms.
        renew: Renews the lease, or raises: another instance may act by now.
        then: Takes the time (ms) of the newest list, once everything before it is counted.
    """

    def __init__(
        self,
        lake: LakeReader,
        table: OutcomeTable,
        rules: Rules,
        clock: Callable[[], int],
        renew: Callable[[], None] = lambda: None,
        then: Callable[[int], None] = lambda _newest: None,
    ) -> None:
        self._lake, self._table = lake, table
        self._rules, self._clock, self._renew = rules, clock, renew
        self._then, self._newest = then, 0
        self._key = ""

    def run(self, stop: threading.Event, every_s: float, retention_ms: int) -> None:
        """Count every `every_s` seconds, or less often where that takes long, until stopped.

        It takes a fifth of the time, and more only where that is too little. Sums are kept for
        `retention_ms`.
        """
        took, expired = 0.0, 0.0
        while not stop.wait(rest_s(took, every_s)):
            began = time.monotonic()
            try:
                self.step()
                if began > expired + _EXPIRE_EVERY_S:
                    self._table.expire(self._clock(), self._rules.credit_ms, retention_ms)
                    expired = began
            # DuckDB's: no memory, no disk.
            except (LakeUnavailableError, DatabaseUnavailableError, duckdb.Error) as error:
                log.warning("outcomes wait to be counted; it is tried again", reason=str(error))
            # Batches of a flooded bucket are many, and Arrow would keep their memory.
            pa.default_memory_pool().release_unused()
            took = time.monotonic() - began

    def step(self) -> int:
        """Count what is new. Returns the number of buckets that were counted."""
        oldest = self._clock() - NAMED_MS
        oldest -= oldest % BUCKET_MS
        self._key = self._key or self._table.hash_key()
        reached: dict[str, Progress] = {}
        self._keep_persons(reached)
        dirty = self._table.owed()
        for name in LAKE_TABLES:
            found = self._new_buckets(name, oldest, reached)
            if name == RECOMMENDATIONS and found:
                dirty.update(range(min(found), self._clock(), BUCKET_MS))
            dirty.update(found)
        done = 0
        while dirty := {start for start in dirty if start >= oldest}:
            period = self._next(dirty, reached)
            self._renew()
            dirty.difference_update(range(*period, BUCKET_MS))
            dirty |= self._count(period, reached)
            done += (period.until - period.since) // BUCKET_MS
        if reached or done:
            self._table.advance(reached)
        self._then(self._newest)
        return done

    def _new_rows(
        self, name: str, columns: Sequence[str], since: str | None, reached: dict[str, Progress]
    ) -> Iterator[pa.RecordBatch]:
        """The rows that were not counted yet; `reached` gets how far they go."""
        before, version = self._table.progress(name), self._lake.version(name)
        if version is None or version == before.version:
            return
        wanted = (*columns, *_POSITION)
        if before.version is not None and self._is_kept(name, before.version):
            batches = self._lake.scan_since(name, version, before.version, wanted)
        else:
            batches = self._lake.scan(name, version, wanted, received_since=since)
        offsets = dict(before.offsets)
        for batch in batches:
            new, ends = _after(batch, before.offsets)
            offsets |= {source: max(end, offsets.get(source, -1)) for source, end in ends.items()}
            yield new
        reached[name] = Progress(version, offsets, before.late)

    def _is_kept(self, name: str, version: int) -> bool:
        try:
            self._lake.covered(name, version)
        except LakeUnavailableError:
            return False
        return True

    def _new_buckets(self, name: str, oldest: int, reached: dict[str, Progress]) -> set[int]:
        found, left_out, newest = set[int](), 0, self._clock() + _AHEAD_MS
        for batch in self._new_rows(name, ("timestamp",), day_of(oldest - DAY_MS), reached):
            times = batch["timestamp"].to_numpy(zero_copy_only=False)
            timely = times[(times >= oldest) & (times <= newest)]
            left_out += len(times) - len(timely)
            if name == RECOMMENDATIONS and len(timely):
                self._newest = max(self._newest, min(int(timely.max()), self._clock()))
            found.update(np.unique(timely - timely % BUCKET_MS).tolist())
        # What was there before the first count is no loss.
        if left_out and self._table.progress(name).version is not None:
            reached[name] = reached[name]._replace(late=reached[name].late + left_out)
        return found

    def _keep_persons(self, reached: dict[str, Progress]) -> None:
        """Keep the visitors who became users."""
        columns = ("entity", "entity_id", "attributes", "deleted")
        for batch in self._new_rows(CATALOG, columns, None, reached):
            became = list[tuple[str, str]]()
            for row in batch.filter(pc.equal(batch["entity"], "identity")).to_pylist():
                person = orjson.loads(row["attributes"] or "{}").get(MERGED_INTO)
                if isinstance(person, str) and not row["deleted"]:
                    became.append((row["entity_id"], person))
            if became:
                self._table.merge(became)

    def _next(self, dirty: Collection[int], reached: dict[str, Progress]) -> Period:
        """The oldest buckets that are next to one another and have few enough rows together."""
        first = min(dirty)
        run = list(islice(_beside(first, dirty), _MOST_BUCKETS))
        rows = Multiset[int]()
        for name in LAKE_TABLES:
            for batch in self._scan(
                name, ("timestamp",), (first, run[-1] + BUCKET_MS - 1), reached
            ):
                times = batch["timestamp"].to_numpy(zero_copy_only=False)
                starts, counts = np.unique(times // BUCKET_MS * BUCKET_MS, return_counts=True)
                rows.update(dict(zip(starts.tolist(), counts.tolist(), strict=True)))
        total, until = 0, first
        for start in run:
            total += rows[start]
            if total > MOST_ROWS and start > first:
                break
            until = start + BUCKET_MS
        return Period(first, until)

    def _scan(
        self,
        name: str,
        columns: Sequence[str],
        times: tuple[int, int],
        reached: dict[str, Progress],
    ) -> Iterator[pa.RecordBatch]:
        """The rows of some times (ms) of the version that is being counted."""
        version = reached[name].version if name in reached else self._table.progress(name).version
        if version is None:
            return iter(())
        since = day_of(times[0] - DAY_MS)
        return self._lake.scan(name, version, columns, received_since=since, times=times)

    def _count(self, period: Period, reached: dict[str, Progress]) -> set[int]:
        """Count a period. Returns the buckets that are owed another count."""
        rules = self._rules._replace(hash_key=self._key)
        table, times = self._table, (period.since, period.until - 1)
        events = self._scan(INTERACTIONS, EVENT_COLUMNS, times, reached)
        with closing(PeriodCount(period, rules, events)) as count:
            count.add_rows("designs", table.designs())
            count.add_rows("summed", table.summed(period))
            for some in count.batches("visitors"):
                count.add_rows("identities", table.persons(some["user_id"]).items())
            begin = period.since - rules.window_ms
            minutes = {
                at // _RECORDED_MS
                for some in count.batches("named")
                for each in some["recommendation_id"].to_pylist()
                if period.since - NAMED_MS <= (at := given_at(each) or 0) < begin
            }
            slates = (
                self._scan(RECOMMENDATIONS, SLATE_COLUMNS, each, reached)
                for each in [*_ranges(minutes), (begin, times[1])]
            )
            count.add("slates", chain.from_iterable(slates))
            of_past = period.since - rules.credit_ms, period.since
            of_one = (table.past(each, *of_past) for each in count.batches("unlinked"))
            of_several = (table.past(each, *of_past) for each in count.batches("linked"))
            count.add("past", chain.from_iterable(chain(of_one, of_several)))
            count.compute()
            return table.replace(period, count)


def rest_s(took_s: float, every_s: float) -> float:
    """Time to rest after a count that took `took_s`."""
    return max(every_s, min(took_s * _REST / (1 - _REST), _LONGEST_REST_S))


def _after(
    batch: pa.RecordBatch, known: Mapping[str, int]
) -> tuple[pa.RecordBatch, dict[str, int]]:
    """The rows behind the known offsets, and the last offset of each source in the batch."""
    ends, new = dict[str, int](), np.zeros(batch.num_rows, np.bool_)
    offsets = batch["offset"].to_numpy(zero_copy_only=False)
    partitions = batch["partition"].to_numpy(zero_copy_only=False)
    for topic_id in pc.unique(batch["topic_id"]).to_pylist():
        of_topic = pc.equal(batch["topic_id"], topic_id).to_numpy(zero_copy_only=False)
        for partition in np.unique(partitions[of_topic]).tolist():
            mine = of_topic & (partitions == partition)
            source = source_name(topic_id, partition)
            ends[source] = int(offsets[mine].max())
            new |= mine & (offsets > known.get(source, -1))
    return batch.filter(pa.array(new)), ends


def _beside(first: int, dirty: Collection[int]) -> Iterator[int]:
    """The bucket and those behind it without a gap."""
    while first in dirty:
        yield first
        first += BUCKET_MS


def _ranges(minutes: Iterable[int]) -> list[tuple[int, int]]:
    """Ranges of times (ms) that have the slates with ids of these minutes, `_MOST_RANGES` at most.

    A slate is recorded within a minute of its id.
    """
    given = sorted(minutes)
    if not given:
        return []
    gaps = sorted(range(1, len(given)), key=lambda place: given[place - 1] - given[place])
    edges = sorted(
        place for place in gaps[: _MOST_RANGES - 1] if given[place] - given[place - 1] > 2
    )
    return [
        (given[begin] * _RECORDED_MS, (given[end - 1] + 2) * _RECORDED_MS - 1)
        for begin, end in zip([0, *edges], [*edges, len(given)], strict=True)
    ]
