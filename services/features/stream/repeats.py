"""Which interactions have been on the topic before: those that ingestion was not sure of are looked
for.

Of two copies the one that ingestion was unsure of is marked, and as a rule the second. But two
replicas of ingestion may have one copy each on its way, and the broker may take the marked one
first. So marked copies that count are remembered for a while, and an unmarked one that comes after
its marked copy does not count.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from slipstream.broker.batch import Message
from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import Position
from slipstream.contracts.times import DAY_MS
from slipstream.stores.lake import INTERACTIONS, Lake

# event id → the positions where it stands
Positions = Mapping[str, Collection[Position]]
# An unmarked copy that is this much younger or older than its marked one (by arrival, in ms) is an
# event of its own: no producer tries for longer, and an id may be used again when ingestion has
# forgotten it.
OVERTAKEN_MS: Final = 600_000
# From so many on, those that are too old for `OVERTAKEN_MS` are forgotten.
_MANY: Final = 100_000


class Repeats:
    """What is known of marked copies. Used in one thread, which reads the stream."""

    def __init__(
        self, lake: Lake, waiting: Callable[[Collection[str]], Positions], lookback_ms: int
    ) -> None:
        """First copies are looked for among the rows received up to `lookback_ms` before, in the
        lake and on their way there (`waiting`).
        """
        self._lake, self._waiting, self._lookback_ms = lake, waiting, lookback_ms
        self._counted: dict[str, tuple[Position, int]] = {}
        self._known_since: int | None = None
        self._forget_at = _MANY

    def forget(self) -> None:
        """Reading goes on elsewhere: partitions have come or gone, or what was read is read again."""
        self._counted.clear()
        self._known_since = None

    def without(self, messages: Sequence[Message[Any]]) -> tuple[list[Message[Any]], int]:
        """The messages without interactions that are repeats, and how many those were.

        A marked interaction is a repeat when its event id stands at another place: in the lake,
        among the rows on their way there, or earlier among these messages. A place further on in
        the same partition is a later copy and does not count. What is in the lake itself has been
        judged before. An unmarked one is a repeat only of a marked one that counts, earlier in its
        own partition. So what is read again gets the same verdict.

        Raises `LakeUnavailableError`: without the lake nothing can be said.
        """
        events = [message.record for message in messages if isinstance(message.record, Interaction)]
        if not events:
            return list(messages), 0
        self._know(min(event.received_at for event in events))
        marked = [event for event in events if event.maybe_repeat]
        if not marked and not self._counted:
            return list(messages), 0
        known = self._positions(marked)
        kept = []
        for message in messages:
            event = message.record
            if isinstance(event, Interaction) and (
                event.event_id in known or event.event_id in self._counted
            ):
                own = message.position
                if event.maybe_repeat:
                    places = known[event.event_id]
                    if own not in places and any(_counts_before(place, own) for place in places):
                        continue
                    self._counted[event.event_id] = own, event.received_at
                elif self._overtook(event, own):
                    continue
                if event.event_id in known:
                    known[event.event_id].add(own)
            kept.append(message)
        if len(self._counted) > self._forget_at:
            self._forget_old(messages)
        return kept, len(messages) - len(kept)

    def _know(self, received_at: int) -> None:
        """Learn from the lake which marked copies count that an event received then may be a repeat
        of.
        """
        since = (received_at - OVERTAKEN_MS) // DAY_MS * DAY_MS
        if self._known_since is None or since < self._known_since:
            self._counted = self._lake.marked(INTERACTIONS, since) | self._counted
            self._known_since = since

    def _positions(self, marked: Sequence[Interaction]) -> dict[str, set[Position]]:
        """Where copies of these events stand."""
        known: dict[str, set[Position]] = {event.event_id: set() for event in marked}
        if marked:
            since = min(event.received_at for event in marked) - self._lookback_ms
            for found in (
                self._waiting(known.keys()),
                self._lake.positions(INTERACTIONS, known.keys(), since),
            ):
                for event_id, others in found.items():
                    known[event_id].update(others)
        return known

    def _overtook(self, event: Interaction, own: Position) -> bool:
        """Whether the marked copy of an unmarked event stands before it."""
        if event.event_id not in self._counted:
            return False
        place, received_at = self._counted[event.event_id]
        return (
            place.source == own.source
            and place.offset < own.offset
            and abs(event.received_at - received_at) <= OVERTAKEN_MS
        )

    def _forget_old(self, messages: Sequence[Message[Any]]) -> None:
        """Those that no copy can follow: of each partition by how far it has come itself, since one
        may be far behind.
        """
        newest: dict[str, int] = {}
        for message in messages:
            if isinstance(message.record, Interaction):
                source = message.source.name
                newest[source] = max(message.record.received_at, newest.get(source, 0))
        self._counted = {
            event_id: (place, received_at)
            for event_id, (place, received_at) in self._counted.items()
            if received_at > newest.get(place.source, 0) - 2 * OVERTAKEN_MS
        }
        self._forget_at = max(_MANY, 2 * len(self._counted))


def _counts_before(place: Position, own: Position) -> bool:
    return place.source != own.source or place.offset < own.offset
