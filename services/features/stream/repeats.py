"""Repeats: second copies of an interaction on the topic, which don't count.

Ingestion marks a copy that may be a repeat (`maybe_repeat`), and the first copy is looked for here.
As a rule the marked copy is the second. But two replicas of ingestion may each have a copy on its
way, and the broker may take the marked one first. So marked copies that count are remembered for a
while, and an unmarked copy after its marked one does not count.

History may be imported again at any time (docs/adr/0059). So every imported event is looked for,
among all rows of its event time. Files in the order of time make that a read of few files.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from slipstream.broker.batch import Message
from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import Position
from slipstream.contracts.times import DAY_MS
from slipstream.stores.lake import INTERACTIONS, Lake

# Positions of interactions by event id.
Positions = Mapping[str, Collection[Position]]
# Most ms between the arrivals of an unmarked copy and its marked one. Beyond, the two are different
# events: no producer tries for longer, and an id may be used again once ingestion has forgotten it.
OVERTAKEN_MS: Final = 600_000
# Offsets between them within which they are one event whatever their arrivals say: these are of two
# machines, whose clocks may differ by hours.
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
            lake: The lake that holds the rows.
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
