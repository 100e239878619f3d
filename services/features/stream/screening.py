"""Screening of batches: records that can't be applied become dead letters, and repeats don't count.

A bad record so never blocks its partition.

A repeat is a second copy of an interaction on the topic. Ingestion marks a copy that may be a
repeat (`maybe_repeat`), and the first copy is looked for here. As a rule the marked copy is the
second. But two replicas of ingestion may each have a copy on its way, and the broker may take the
marked one first. So marked copies that count are remembered for a while, and an unmarked copy after
its marked one does not count.

History may be imported again at any time (docs/adr/0059). So every imported event is looked for,
among all rows of its event time. Files in the order of time make that a read of few files.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final, NamedTuple

from services.features.metrics import LATE_OVER_H
from slipstream.broker.records import Batch, MalformedMessage, Message
from slipstream.contracts.events import CatalogRecord, DeadLetter, Interaction
from slipstream.contracts.item_patches import MAX_PATCHED_BYTES, PATCHED_ENTITY
from slipstream.contracts.positions import Position
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import MAX_POSITION
from slipstream.stores.lake import INTERACTIONS, Lake

# Characters of the original record that a letter keeps, from its beginning.
_LONGEST_ORIGINAL: Final = 64 * 1024


class Limits(NamedTuple):
    """Most ms that an event may lie ahead of its arrival, and behind it."""

    ahead_ms: int
    late_ms: int


class ScreeningResult(NamedTuple):
    """A screened batch: the records that can be applied, and dead letters for the others.

    `late` counts accepted events by the hours that they are late (`LATE_OVER_H`).
    """

    batch: Batch
    letters: list[DeadLetter]
    late: Counter[int]


def screen(batch: Batch, now_ms: int, limits: Limits) -> ScreeningResult:
    """Screen a batch for records that can't be applied.

    These are bytes that are no record of their topic, positions beyond 32 bits, erasures that do
    not say what they erase, and interactions too far ahead of their arrival: an event dated 2099
    would push all others out of an item's windows and out of trending. Interactions that are too
    late are left out, too, unless they were imported. The verdict depends on the record alone, so a
    record read again gets the same.
    """
    letters = [
        _letter(bad, "malformed_record", bad.reason, bad.value.decode(errors="replace"), now_ms)
        for bad in batch.malformed
    ]
    accepted, late = [], Counter[int]()
    least_late_ms = min(LATE_OVER_H) * HOUR_MS
    for message in batch.messages:
        event = message.record
        if fault := _fault(event, limits):
            code, reason, field = fault
            original = event.model_dump_json()
            letters.append(_letter(message, code, reason, original, now_ms, field))
            continue
        if isinstance(event, Interaction):
            late_ms = event.received_at - event.timestamp
            if late_ms > least_late_ms and not event.imported:
                late[next(hours for hours in LATE_OVER_H if late_ms > hours * HOUR_MS)] += 1
        accepted.append(message)
    return ScreeningResult(replace(batch, messages=accepted, malformed=[]), letters, late)


def missed_patches(
    messages: Iterable[Message[Any]], missed: Set[Position], now_ms: int
) -> list[DeadLetter]:
    """Dead letters of the patches, at these positions, that changed nothing."""
    return [
        _letter(
            message,
            f"unknown_{entity}",
            f"a patch needs the {entity} to be there: this one is not, was deleted, or would"
            f" have more than {MAX_PATCHED_BYTES} bytes; upsert it whole",
            message.record.model_dump_json(),
            now_ms,
            f"{entity}_id",
        )
        for message in messages
        if message.position in missed
        for entity in [PATCHED_ENTITY[message.record.entity]]
    ]


def _fault(event: Any, limits: Limits) -> tuple[str, str, str] | None:
    """Code, reason and field of a record's first fault; None without a fault."""
    if isinstance(event, CatalogRecord):
        if event.entity == "user" and event.deleted and not event.cut:
            return "erasure_without_cut", "an erasure needs a cut, as ingestion gives it", "cut"
        return None
    if not isinstance(event, Interaction):
        return None
    ahead_ms = event.timestamp - event.received_at
    if ahead_ms > limits.ahead_ms:
        return (
            "timestamp_ahead",
            f"timestamp is {ahead_ms / HOUR_MS:.1f} h ahead of its arrival",
            "timestamp",
        )
    if -ahead_ms > limits.late_ms and not event.imported:
        return (
            "timestamp_late",
            f"timestamp is {-ahead_ms / HOUR_MS:.1f} h before its arrival",
            "timestamp",
        )
    if event.position is not None and event.position > MAX_POSITION:
        return "position_out_of_range", f"position is over {MAX_POSITION}", "position"
    return None


def _letter(
    refused: Message[Any] | MalformedMessage,
    code: str,
    reason: str,
    original: str,
    now_ms: int,
    field: str | None = None,
) -> DeadLetter:
    """A dead letter for a refused record; `field` names the field at fault."""
    position = f"{refused.source.topic}:{refused.source.partition}:{refused.offset}"
    return DeadLetter(
        source="features",
        code=code,
        reason=f"{position}: {reason}",
        field=field,
        original=original[:_LONGEST_ORIGINAL],
        received_at=now_ms,
        request_id=refused.request_id,
    )


# Positions of interactions by event id.
Positions = Mapping[str, Collection[Position]]
# Most ms between the arrivals of an unmarked copy and its marked one. Beyond, the two are different
# events: no producer tries for longer, and an id may be used again once ingestion has forgotten it.
OVERTAKEN_MS: Final = 600_000
# Offsets between them within which they are one event whatever their arrivals say: these are of two
# machines with clocks that may differ by hours.
OVERTAKEN_OFFSETS: Final = 1_000
# Marked copies in memory from which on those too old for `OVERTAKEN_MS` are forgotten.
_MANY: Final = 100_000


class Repeats:
    """Drops repeats from batches. One thread uses it, that which follows the stream."""

    def __init__(
        self, lake: Lake, waiting: Callable[[Collection[str]], Positions], lookback_ms: int
    ) -> None:
        """First copies are looked for among rows received up to `lookback_ms` before.

        Args:
            waiting: Positions, by event id, of rows on their way to the lake.
            lookback_ms: Time before an event's arrival that is searched, in ms.
        """
        self._lake, self._waiting, self._lookback_ms = lake, waiting, lookback_ms
        self._counted: dict[str, tuple[Position, int]] = {}
        # Arrival time from which on marked copies in the lake were learned; None for none yet.
        self._learned_since: int | None = None
        self._forget_at = _MANY

    def forget(self) -> None:
        """Forget marked copies: partitions have come or gone, or records are read again."""
        self._counted.clear()
        self._learned_since = None

    def without(self, messages: Sequence[Message[Any]]) -> tuple[list[Message[Any]], int]:
        """The messages without repeats, and the number of repeats.

        A marked interaction is a repeat when a copy stands at another position: in the lake, among
        the rows on their way there, or earlier among these messages. A copy further on in the same
        partition is a later one and does not count. An interaction that is in the lake itself was
        judged before. Imported interactions are judged alike, marked or not. Another unmarked
        interaction is a repeat only of a marked one that counts, earlier in its partition. So a
        record that is read again gets the same verdict.

        Raises `LakeUnavailableError`, since repeats can't be told without the lake.
        """
        events = [message.record for message in messages if isinstance(message.record, Interaction)]
        if not events:
            return list(messages), 0
        self._learn(min(event.received_at for event in events))
        imported = [event for event in events if event.imported]
        marked = [event for event in events if event.maybe_repeat and not event.imported]
        if not marked and not imported and not self._counted:
            return list(messages), 0
        copies = self._positions(marked, imported)
        kept = []
        for message in messages:
            event = message.record
            if isinstance(event, Interaction) and (
                event.event_id in copies or event.event_id in self._counted
            ):
                here = message.position
                if event.maybe_repeat or event.imported:
                    others = copies[event.event_id]
                    if here not in others and any(_counts_before(at, here) for at in others):
                        continue
                    if not event.imported:
                        self._counted[event.event_id] = here, event.received_at
                elif self._follows_marked(event, here):
                    continue
                if event.event_id in copies:
                    copies[event.event_id].add(here)
            kept.append(message)
        if len(self._counted) > self._forget_at:
            self._forget_old(messages)
        return kept, len(messages) - len(kept)

    def _learn(self, received_at: int) -> None:
        """Learn the marked copies in the lake that an event received then may follow."""
        since = (received_at - OVERTAKEN_MS) // DAY_MS * DAY_MS
        if self._learned_since is None or since < self._learned_since:
            self._counted = self._lake.marked(INTERACTIONS, since) | self._counted
            self._learned_since = since

    def _positions(
        self, marked: Sequence[Interaction], imported: Sequence[Interaction]
    ) -> dict[str, set[Position]]:
        """The positions of copies of these events, in the lake and on their way there."""
        copies: dict[str, set[Position]] = {e.event_id: set() for e in (*marked, *imported)}
        found = [self._waiting(copies.keys())] if copies else []
        if marked:
            since = min(event.received_at for event in marked) - self._lookback_ms
            ids = {event.event_id for event in marked}
            found.append(self._lake.positions(INTERACTIONS, ids, since))
        if imported:
            times = [event.timestamp for event in imported]
            ids = {event.event_id for event in imported}
            within = min(times), max(times)
            found.append(self._lake.positions(INTERACTIONS, ids, times=within))
        for positions in found:
            for event_id, others in positions.items():
                copies[event_id].update(others)
        return copies

    def _follows_marked(self, event: Interaction, here: Position) -> bool:
        """Whether an unmarked event stands behind its marked copy."""
        if event.event_id not in self._counted:
            return False
        marked, received_at = self._counted[event.event_id]
        return (
            marked.source == here.source
            and marked.offset < here.offset
            and (
                here.offset - marked.offset <= OVERTAKEN_OFFSETS
                or abs(event.received_at - received_at) <= OVERTAKEN_MS
            )
        )

    def _forget_old(self, messages: Sequence[Message[Any]]) -> None:
        """Forget marked copies that no unmarked one can follow any more.

        Each partition is judged by its own newest arrival, since it may be far behind the others.
        """
        newest: dict[str, int] = {}
        last: dict[str, int] = {}
        for message in messages:
            if isinstance(message.record, Interaction):
                source = message.source.name
                newest[source] = max(message.record.received_at, newest.get(source, 0))
                last[source] = message.offset
        self._counted = {
            event_id: (position, received_at)
            for event_id, (position, received_at) in self._counted.items()
            if received_at > newest.get(position.source, 0) - 2 * OVERTAKEN_MS
            or position.offset > last.get(position.source, 0) - OVERTAKEN_OFFSETS
        }
        self._forget_at = max(_MANY, 2 * len(self._counted))


def _counts_before(position: Position, here: Position) -> bool:
    """Whether a copy at `position` counts before the copy here."""
    return position.source != here.source or position.offset < here.offset
