"""Rows of the lake: records turned into rows and back, and the stream's written in portions.

A thread of its own writes them, so that a slow lake does not slow the online store down.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson
import pyarrow as pa

from slipstream.broker.records import Batch, Message
from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import (
    Position,
    Source,
    StreamInteraction,
    id_of_log,
    source_name,
)
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.times import DAY_MS
from slipstream.contracts.topics import CATALOG, INTERACTIONS, PEOPLE, RECOMMENDATIONS
from slipstream.stores import lake
from slipstream.stores.lake import Lake, LakeConflictError, LakeUnavailableError

Row = tuple[Any, ...]

# Columns of an interaction that folding reads.
FOLDED_COLUMNS: Final = (
    "event_id", "event_type", "user_id", "anonymous_id", "item_id", "timestamp", "received_at",
    "value", "topic_id", "partition", "offset", "weight", "unlearned",
)  # fmt: skip
# Fields of an interaction that no feature reads. They are given here, since filling in defaults
# costs more than all the rest.
_UNREAD: Final[dict[str, Any]] = {
    "session_id": None, "recommendation_id": None, "position": None, "source": "",
    "properties": {}, "maybe_repeat": False, "imported": False,
}  # fmt: skip


def interaction_row(message: Message[Interaction]) -> Row:
    """An interaction as a row, in the order of the table's columns."""
    event = message.record
    return (
        event.event_id,
        event.event_type,
        event.user_id,
        event.item_id,
        event.timestamp,
        event.received_at,
        event.anonymous_id,
        event.session_id,
        event.value,
        event.recommendation_id,
        event.position,
        event.source,
        _json(event.properties),
        *_position(message),
        _date(event.received_at),
        event.maybe_repeat,
        event.weight,
        event.unlearned,
    )


def catalog_row(message: Message[CatalogRecord]) -> Row:
    """A catalogue record as a row, in the order of the table's columns."""
    entry = message.record
    return (
        entry.entity,
        entry.entity_id,
        _json(entry.attributes),
        entry.available,
        entry.deleted,
        entry.timestamp,
        entry.source,
        *_position(message),
        entry.by_browser,
        entry.client_time,
        entry.erasure_id or None,
        _json(entry.cut) if entry.cut else None,
        entry.proven,
    )


def slate_row(message: Message[RecordedSlate]) -> Row:
    """A slate as a row, in the order of the table's columns."""
    slate = message.record
    return (
        slate.recommendation_id,
        slate.user_id,
        slate.timestamp,
        [
            {"item_id": item.item_id, "score": item.score, "source": item.source}
            for item in slate.items
        ],
        slate.answered_by,
        slate.model_version,
        slate.variant,
        slate.placement,
        _json(slate.features),
        slate.latency_ms,
        *_position(message),
        _date(slate.timestamp),
        slate.purpose,
        slate.experiment or None,
        slate.placement_revision,
        slate.circumstances_json or None,
        slate.substituted or None,
        slate.shadow_of or None,
        slate.propensities or None,
        slate.sampled,
    )


# Table and conversion of a topic's records, by the topic's name.
TABLES: Final[dict[str, tuple[str, Callable[[Message[Any]], Row]]]] = {
    INTERACTIONS.name: (lake.INTERACTIONS, interaction_row),
    CATALOG.name: (lake.CATALOG, catalog_row),
    PEOPLE.name: (lake.CATALOG, catalog_row),
    RECOMMENDATIONS.name: (lake.RECOMMENDATIONS, slate_row),
}


def as_table(table: str, rows: Sequence[Row]) -> pa.Table:
    """Rows, each in the order of the table's columns, as an Arrow table."""
    schema = lake.SCHEMAS[table]
    arrays = [
        pa.array(column, kind)
        for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def stream_interactions(columns: Mapping[str, Sequence[Any]]) -> list[StreamInteraction]:
    """Interactions with their positions, from rows of the lake given as their `FOLDED_COLUMNS`.

    Missing values are None or NaN.
    """
    records = []
    for row in zip(*(columns[name] for name in FOLDED_COLUMNS), strict=True):
        (
            event_id,
            event_type,
            user_id,
            anonymous_id,
            item_id,
            timestamp,
            received_at,
            value,
            topic_id,
            partition,
            offset,
            weight,
            unlearned,
        ) = row
        # The lake holds what was validated on its way in.
        interaction = Interaction.model_construct(
            event_id=event_id,
            event_type=event_type,
            user_id=user_id,
            anonymous_id=anonymous_id if isinstance(anonymous_id, str) else None,
            item_id=item_id if isinstance(item_id, str) else None,
            timestamp=timestamp,
            received_at=received_at,
            value=None if value is None or value != value else value,
            weight=None if weight is None or weight != weight else weight,
            unlearned=unlearned is True,
            **_UNREAD,
        )
        records.append(StreamInteraction(source_name(topic_id, partition), offset, interaction))
    return records


def _position(message: Message[Any]) -> tuple[str, int, int]:
    return message.source.topic_id, message.source.partition, message.offset


def _json(value: dict[str, Any]) -> str:
    if not value:
        return "{}"
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # A whole number of more than 64 bits.
        return json.dumps(value, ensure_ascii=False)


def _date(millis: int) -> str:
    return _date_of_day(millis // DAY_MS)


@lru_cache(maxsize=4096)
def _date_of_day(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


log = get_logger(__name__)

# Portions that may wait while the lake can't be written; with more, reading pauses. They are
# counted by rows, and by bytes, since rows may be large.
PORTIONS_HELD: Final = 10
LARGE_PORTIONS_HELD: Final = 4
# Bytes of a row besides its record's: its tuple, its position, its short strings.
ROW_OVERHEAD: Final = 1_000
_RETRY_S: Final = 1.0
_CONFLICTS_TAKEN: Final = 20
# Pause between two questions whether an erasure still holds appends.
_HELD_S: Final = 0.05

NextOffsets = dict[Source, int]


@dataclass(slots=True)
class _Portion:
    rows: dict[str, list[tuple[Source, int, Row]]] = field(default_factory=dict)
    next_offsets: NextOffsets = field(default_factory=dict)
    count: int = 0
    size: int = 0
    since: float = 0.0


class Archive:
    """Rows on their way to the lake. One thread calls it; writing happens in another.

    `failure` says why the lake can't be written now; None when it can.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        flush_s: float,
        flush_rows: int,
        flush_bytes: int,
        held: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            flush_s: Longest wait of rows, in seconds.
            flush_rows: Number of waiting rows that are written without further delay.
            flush_bytes: Their bytes, of which the same is true.
            held: Whether an erasure asks that nothing be appended now.
        """
        self._lake, self._held = lake, held
        self._flush_s, self._flush_rows, self._flush_bytes = flush_s, flush_rows, flush_bytes
        self._filling, self._writing = _Portion(), _Portion()
        # Next offset of each source behind the rows that were taken.
        self._taken: NextOffsets = {}
        self._abandoned: list[_Portion] = []
        self._job: Future[None] | None = None
        self._retry_at = 0.0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="lake-writer")
        self.failure: str | None = None

    @property
    def empty(self) -> bool:
        """Whether everything that was added is in the lake."""
        return not any(portion.next_offsets for portion in self._portions())

    @property
    def full(self) -> bool:
        """Whether reading should pause until something has been written."""
        return (
            self._filling.count >= self._flush_rows * PORTIONS_HELD
            or self._filling.size >= self._flush_bytes * LARGE_PORTIONS_HELD
        )

    def positions(self, event_ids: Collection[str]) -> dict[str, list[Position]]:
        """Positions of interactions with these event ids that may not be in the lake yet."""
        positions: dict[str, list[Position]] = {}
        for portion in self._portions():
            for source, offset, row in portion.rows.get(lake.INTERACTIONS, ()):
                if row[0] in event_ids:
                    positions.setdefault(row[0], []).append(Position(source.name, offset))
        return positions

    def add(self, batch: Batch) -> None:
        """Take a batch after its other effects."""
        portion = self._filling
        if not portion.next_offsets:
            portion.since = time.monotonic()
        for message in batch.messages:
            if message.offset < self._taken.get(message.source, 0):
                continue  # Read again before it was written.
            table, as_row = TABLES[message.source.topic]
            portion.rows.setdefault(table, []).append(
                (message.source, message.offset, as_row(message))
            )
        portion.count += len(batch.messages)
        portion.size += sum(message.size + ROW_OVERHEAD for message in batch.messages)
        portion.next_offsets.update(batch.next_offsets)
        self._taken.update(batch.next_offsets)

    def step(self) -> Mapping[Source, int]:
        """Begin to write what is due, without waiting for it.

        Returns the next offsets of sources with rows that reached the lake since the last step.
        """
        now = time.monotonic()
        if self._job is None:
            portion = self._filling
            due = (
                portion.count >= self._flush_rows
                or portion.size >= self._flush_bytes
                or now - portion.since >= self._flush_s
            )
            if self._writing.next_offsets:  # A failed portion comes first.
                if now >= self._retry_at:
                    self._job = self._writer.submit(self._write, self._writing)
            elif portion.next_offsets and due:
                self._filling, self._writing = _Portion(), portion
                self._job = self._writer.submit(self._write, portion)
        return self._finish() if self._job is not None and self._job.done() else {}

    def drain(self, timeout_s: float) -> Mapping[Source, int]:
        """Write everything now, and give up on a failure or after `timeout_s`.

        Returns the next offsets of sources with rows that have reached the lake.
        """
        deadline = time.monotonic() + timeout_s
        reached: NextOffsets = {}
        while self._filling.next_offsets or self._writing.next_offsets:
            self._filling.since = self._retry_at = 0.0
            reached.update(self.step())
            if self._job is None:
                if self.failure:
                    break
                continue
            try:
                self._job.exception(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                break
        return reached

    def abandon(self) -> None:
        """Set aside everything that is not in the lake yet, until `settle` decides about it."""
        self._abandoned += [part for part in (self._writing, self._filling) if part.next_offsets]
        self._filling, self._writing, self._job = _Portion(), _Portion(), None
        self._taken.clear()
        self.failure, self._retry_at = None, 0.0

    def settle(self, topic_ids: Mapping[str, str]) -> None:
        """Drop the abandoned rows that are read again, and write those of topics that are gone.

        A broker that lost its records has made its topics again. Nothing else has these rows then.

        Args:
            topic_ids: The present id of each topic, by its name; empty while they are not known.
        """
        if not self._abandoned or not topic_ids:
            return
        # What was read again meanwhile was taken again, or stands here twice.
        lost = {
            (table, source, offset): row
            for portion in self._abandoned
            for table, rows in portion.rows.items()
            for source, offset, row in rows
            if id_of_log(source.topic_id) != topic_ids[source.topic]
            and offset >= self._taken.get(source, 0)
        }
        self._abandoned.clear()
        if not lost:
            return
        log.warning("rows of topics that are gone are written to the lake", rows=len(lost))
        for (table, source, offset), row in sorted(lost.items(), key=lambda entry: entry[0][2]):
            self._filling.rows.setdefault(table, []).append((source, offset, row))
            self._filling.next_offsets[source] = offset + 1
        self._filling.count += len(lost)
        self._filling.since = 0.0

    def close(self) -> None:
        """Release the writing thread."""
        self._writer.shutdown(wait=False, cancel_futures=True)

    def _portions(self) -> list[_Portion]:
        return [*self._abandoned, self._writing, self._filling]

    def _finish(self) -> Mapping[Source, int]:
        assert self._job is not None  # noqa: S101
        job, self._job = self._job, None
        try:
            job.result()
        except LakeUnavailableError as error:
            if self.failure is None:
                log.error("the lake can't be written; offsets wait", reason=str(error))
            self.failure = str(error)
            self._retry_at = time.monotonic() + _RETRY_S
            return {}
        if self.failure is not None:
            log.info("the lake can be written again")
        self.failure = None
        written, self._writing = self._writing, _Portion()
        return written.next_offsets

    def _write(self, portion: _Portion) -> None:
        for table, rows in portion.rows.items():
            while self._held():  # The asker's time is limited, should it have died.
                time.sleep(_HELD_S)
            for attempt in range(_CONFLICTS_TAKEN):
                try:
                    _append_fresh(self._lake, table, rows)
                    break
                except LakeConflictError as error:
                    if attempt == _CONFLICTS_TAKEN - 1:
                        raise LakeUnavailableError(str(error)) from error


def _append_fresh(lake: Lake, table: str, rows: list[tuple[Source, int, Row]]) -> None:
    """Append the rows that the table does not hold yet."""
    applied = lake.applied_offsets(table, list({source for source, _, _ in rows}))
    fresh = [(source, offset, row) for source, offset, row in rows if offset > applied[source]]
    if fresh:
        lake.append(
            table,
            as_table(table, [row for _, _, row in fresh]),
            {source: offset for source, offset, _ in fresh},
        )
