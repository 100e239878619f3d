"""The catalogue as it was when a slate was made, from features, in memory for the next replays."""

import time
from pathlib import Path
from typing import Final

from services.serving.catalog import Catalog
from services.serving.catalog_journal import CatalogJournal
from services.serving.model_holder import Model
from slipstream.chassis.client import Peer
from slipstream.contracts.circumstances import Circumstances

# Records that are taken in before other threads, which answer requests, have a turn.
_AT_ONCE: Final = 64
_PAUSE_S: Final = 0.0005
# Time for comparing new items with known ones before others have a turn, and in all.
_COMPARING_S: Final = 0.005
_LONGEST_COMPARING_S: Final = 30.0


class PastCatalogs:
    """The catalogue that was asked for last. Used in one thread.

    Args:
        features: The service that is asked.
        folder: Folder that a catalogue is downloaded into.
    """

    def __init__(self, features: Peer, folder: Path) -> None:
        self._features, self._path = features, folder / "catalog.jsonl"
        self._now = 0.0
        self._expires = False
        self._kept: tuple[dict[str, list[int]], Catalog] | None = None

    def of(self, recommendation_id: str, circumstances: Circumstances) -> Catalog:
        """The catalogue of a slate, at the slate's time. Raises `PeerError`.

        The same one as before where the slate was made from the same records. Then time may only
        go on, unless nothing expires.
        """
        ends, now = circumstances.catalog, float(circumstances.now)
        goes_on = now >= self._now or not self._expires
        if self._kept is not None and self._kept[0] == ends and goes_on:
            self._now = max(now, self._now)
            return self._kept[1]
        self.release()
        self._now = now
        self._kept = ends, self._made(recommendation_id)
        return self._kept[1]

    def release(self) -> None:
        """Forget the catalogue."""
        self._kept, self._expires = None, False

    def _made(self, recommendation_id: str) -> Catalog:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        catalog = Catalog(lambda: self._now)
        try:
            self._features.download(f"/v1/slates/{recommendation_id}/catalog", self._path)
            for number, entry in enumerate(CatalogJournal(self._path).read()):
                catalog.apply(entry)
                self._expires |= "expires_at" in entry.record.attributes
                if number % _AT_ONCE == 0:
                    time.sleep(_PAUSE_S)
        finally:
            self._path.unlink(missing_ok=True)
        return catalog


def compare_all(catalog: Catalog, model: Model) -> None:
    """Compare all items that a model does not know with those that it knows."""
    space, until = catalog.space(model), time.monotonic() + _LONGEST_COMPARING_S
    while space.waiting and time.monotonic() < until:
        catalog.compare_new_items(_COMPARING_S)
        time.sleep(_PAUSE_S)
