"""What a slate was made from, as it was then: the catalogue, models and placements."""

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import orjson

from services.serving.state import catalog_journal
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import ConflictError
from slipstream.contracts.circumstances import Circumstances
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.placements import Placement
from slipstream.contracts.positions import StreamCatalogRecord, split_source
from slipstream.contracts.times import now_ms
from slipstream.recommender.bundle import load_bundle
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.stores.artifacts import fetch_files, fetched_manifest

# Records that are taken in before other threads, which answer requests, have a turn.
_AT_ONCE: Final = 64
_PAUSE_S: Final = 0.0005
# Time for comparing new items with known ones before others have a turn, and in all.
_COMPARING_S: Final = 0.005
_LONGEST_COMPARING_S: Final = 30.0


class PastCatalogs:
    """The catalogue that was requested last. Used in one thread.

    Args:
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

    def go_on(self, now_ms: int) -> None:
        """Let the time of the catalogue, by which items expire, come to this moment."""
        self._now = max(self._now, float(now_ms))

    def release(self) -> None:
        """Forget the catalogue."""
        self._kept, self._expires = None, False

    def _made(self, recommendation_id: str) -> Catalog:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        catalog = Catalog(lambda: self._now)
        try:
            self._features.download(f"/v1/slates/{recommendation_id}/catalog", self._path)
            for number, entry in enumerate(catalog_journal.read(self._path)):
                catalog.apply(entry)
                self._expires |= "expires_at" in entry.record.attributes
                if number % _AT_ONCE == 0:
                    time.sleep(_PAUSE_S)
        finally:
            self._path.unlink(missing_ok=True)
        return catalog


# Records of items between the first slate and the last one of a journey, of some hundred bytes.
MOST_CHANGES: Final = 300_000


class CatalogJourney:
    """The catalogue along a period, for slates in the order of their times. Used in one thread.

    Args:
        folder: Folder that records are downloaded into.
        last: Id and circumstances of the last slate, with the newest catalogue.

    Raises:
        PeerError: Features does not answer.
        ConflictError: More records came meanwhile than `MOST_CHANGES`.
    """

    def __init__(
        self,
        features: Peer,
        folder: Path,
        first: tuple[str, Circumstances],
        last: tuple[str, Circumstances],
    ) -> None:
        self._catalogs = PastCatalogs(features, folder)
        self._catalog = self._catalogs.of(*first)
        self._waiting: dict[str, list[tuple[int, bytes]]] = {}
        if first[1].catalog != last[1].catalog:
            self._read_changes(features, folder, first[0], last[0])
        for waiting in self._waiting.values():
            waiting.sort(reverse=True)

    def at(self, circumstances: Circumstances) -> Catalog:
        """The catalogue of a slate, which is no earlier than the ones before."""
        self._catalogs.go_on(circumstances.now)
        for source, waiting in self._waiting.items():
            topic_id, partition = split_source(source)
            ends = circumstances.catalog.get(topic_id, ())
            end = ends[partition] if partition < len(ends) else 0
            while waiting and waiting[-1][0] < end:
                offset, record = waiting.pop()
                entry = CatalogRecord.model_validate_json(record)
                self._catalog.apply(StreamCatalogRecord(source, offset, entry))
        return self._catalog

    def _read_changes(self, features: Peer, folder: Path, first: str, last: str) -> None:
        path = folder / "changes.jsonl"
        try:
            features.download(f"/v1/slates/{last}/catalog?since={first}", path)
            with path.open("rb") as file:
                for number, line in enumerate(file):
                    if number >= MOST_CHANGES:
                        raise ConflictError(
                            f"more than {MOST_CHANGES:,} records of items came in the period: "
                            "shorten it",
                            code="too_many_changes",
                        )
                    source, offset, record = orjson.loads(line)
                    self._waiting.setdefault(source, []).append((offset, orjson.dumps(record)))
        finally:
            path.unlink(missing_ok=True)


def compare_all(catalog: Catalog, model: Model) -> None:
    """Compare all items that a model does not know with those that it knows."""
    space, until = catalog.space(model), time.monotonic() + _LONGEST_COMPARING_S
    while space.waiting and time.monotonic() < until:
        catalog.compare_new_items(_COMPARING_S)
        time.sleep(_PAUSE_S)


class PastModels:
    """Models for replays. Used in one thread; those in service stay as they are.

    Args:
        training: The service that has the files of all versions.
        folder: Folder that one model is downloaded into; it is emptied before the next one.
    """

    def __init__(
        self, training: Peer, in_service: Callable[[], Iterable[Model | None]], folder: Path
    ) -> None:
        self._training, self._in_service, self._folder = training, in_service, folder
        self._kept: Model | None = None

    def of(self, version: str) -> Model:
        """The model of a version. Raises `PeerError`, and `ConflictError` where it is gone."""
        for model in (*self._in_service(), self._kept):
            if model is not None and model.version == version:
                return model
        self.release()
        self._kept = self._fetched(version)
        return self._kept

    def release(self) -> None:
        """Forget the model, and delete its files."""
        self._kept = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _fetched(self, version: str) -> Model:
        self._folder.mkdir(parents=True)
        try:
            manifest = fetched_manifest(self._training, version, self._folder)
            fetch_files(self._training, version, manifest, self._folder)
            return Model(version, load_bundle(self._folder), self._folder, now_ms())
        except PeerError as error:
            if error.status != 404:
                raise
            raise ConflictError(
                f"training keeps no files of model {version} any more", code="model_gone"
            ) from error


def past_placement(monitoring: Peer, name: str, revision: int) -> Placement | None:
    """A revision of a placement; None for revision 0, which stands for no placement.

    Raises `PeerError`, and `ConflictError` where there is no such revision.
    """
    if not revision:
        return None
    found: list[object] = []
    try:
        path = f"/v1/placements/{quote(name, safe='')}/revisions"
        found = monitoring.get(path, limit=1, cursor=revision + 1)["items"]
    except PeerError as error:
        if error.status != 404:
            raise
    placement = Placement.model_validate(found[0]) if found else None
    if placement is None or placement.revision != revision:
        raise ConflictError(
            f"monitoring has no revision {revision} of placement {name}", code="revision_gone"
        )
    return placement
