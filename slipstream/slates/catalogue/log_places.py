"""Places in the log of the catalogue: positions of records that were taken in, early patches."""

from collections.abc import Mapping, Sequence
from typing import Final

from slipstream.contracts.positions import StreamCatalogRecord, split_source


class AppliedPositions:
    """The next offset of each partition, behind the records that were taken in.

    Written by one thread at a time, read by others.
    """

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}
        self._noted = 0
        self._by_topic: tuple[int, Mapping[str, Sequence[int]]] = (0, {})

    def note(self, source: str, offset: int) -> None:
        """Note that the record at this position was taken in; one without a source has none."""
        if source and offset >= self._ends.get(source, 0):
            self._ends[source] = offset + 1
            self._noted += 1

    def by_topic(self) -> Mapping[str, Sequence[int]]:
        """The next offset of each partition, by the topic's id; 0 where there was no record.

        The same mapping comes again until further records come; don't write to it.
        """
        noted = self._noted
        if noted != self._by_topic[0]:
            ends: dict[str, list[int]] = {}
            for source, end in list(self._ends.items()):
                topic_id, partition = split_source(source)
                of_topic = ends.setdefault(topic_id, [])
                of_topic += [0] * (partition + 1 - len(of_topic))
                of_topic[partition] = end
            # Of the number before: a record that came meanwhile makes another mapping.
            self._by_topic = noted, ends
        return self._by_topic[1]


# Items whose patches are kept, of some hundred bytes each.
MOST_ITEMS: Final = 100_000


class EarlyPatches:
    """Patches that wait for their items' whole records, in the order of the log.

    The topic is read beside the store's snapshot, and a topic that was made anew begins with
    patches of items which only the store has. Once both were read, a patch without an item changes
    nothing, and none is kept.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[StreamCatalogRecord]] = {}
        self._closed = False

    def keep(self, patch: StreamCatalogRecord) -> None:
        """Keep a patch for its item; of too many items, the first one's are dropped."""
        if self._closed:
            return
        self._waiting.setdefault(patch.record.entity_id, []).append(patch)
        if len(self._waiting) > MOST_ITEMS:
            del self._waiting[next(iter(self._waiting))]

    def take(self, item_id: str) -> list[StreamCatalogRecord]:
        """The patches of an item that is known from now on."""
        return self._waiting.pop(item_id, [])

    def close(self) -> None:
        """Drop what waits, and keep nothing more."""
        self._closed = True
        self._waiting.clear()
