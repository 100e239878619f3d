"""Early patches: patches that a serving process reads before it knows their items."""

from typing import Final

from slipstream.contracts.positions import StreamCatalogRecord

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
