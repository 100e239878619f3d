"""Models by their version: those in service, and one more that a replay needs."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from services.serving.model_cache import fetch_files, fetched_manifest
from services.serving.model_holder import Model
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import ConflictError
from slipstream.contracts.times import now_ms
from slipstream.recommender.bundle import load_bundle


class PastModels:
    """Models for replays. Used in one thread; those in service stay as they are.

    Args:
        training: The service that has the files of all versions.
        in_service: Returns the models in service.
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
