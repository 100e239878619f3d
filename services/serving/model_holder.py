"""The model in service.

A new champion is downloaded, verified and warmed up before it takes over. Until then, and whenever
a new one is faulty, the present model stays.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from services.serving.bundle_folders import folder_name, is_bundle
from services.serving.metrics import ServingMetrics
from slipstream.broker.batch import Batch
from slipstream.broker.consumer import Consumer
from slipstream.broker.loop import consume
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.logging import carrying, get_logger
from slipstream.contracts.bundle import Manifest
from slipstream.contracts.rest import ModelVersion
from slipstream.contracts.times import now_ms
from slipstream.recommender.bundle import Bundle, BundleError, load_bundle

log = get_logger(__name__)

CHAMPION = "champion"
_KEPT = "models.json"
_INCOMING = ".slipstream-incoming"
# Pause between two looks at the alias while it is not known whether there is a champion.
_UNSETTLED_S = 1.0
# Pause between looks at what another process has put into the cache.
_FOLLOW_S = 0.2


class NoChampionError(LookupError):
    """Training answers, and says that it has no champion."""


# Why a champion can't be taken, without a fault of this program.
_EXPECTED = PeerError | BundleError | ValidationError | OSError | NoChampionError


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded bundle, its version in the registry, and the time of loading (ms)."""

    version: str
    bundle: Bundle
    directory: Path
    loaded_at: int


class ModelHolder:
    """The champion and the model before it.

    Requests read `current`, one reference that is replaced as a whole. Two workers run
    `follow_events` and `follow_alias`; one thread at a time may call `refresh`.

    The cache holds each bundle in a folder named by its manifest's digest. `models.json` names the
    present and the previous one, so that a restart needs no training service. Other files in the
    cache folder stay untouched.

    Args:
        training: The service that is asked for the champion and its files.
        cache_dir: Folder of the bundles.
        measured: Metrics.
        warm_up: Called with a new model before it takes over; an error keeps the model out.
        required: Whether a service without a model is unready until training has said that there
            is no champion.
    """

    def __init__(
        self,
        training: Peer,
        cache_dir: Path,
        measured: ServingMetrics,
        warm_up: Callable[[Model], None] = lambda _: None,
        *,
        required: bool = True,
    ) -> None:
        self._training, self._cache = training, cache_dir
        self._measured, self._warm_up = measured, warm_up
        self._wake = threading.Event()
        self._request = ""
        self._required = required
        # A model was in service, or training has said that there is none.
        self._settled = False
        self.current: Model | None = None
        self.previous: Model | None = None
        self.problem = ""

    def restore(self) -> bool:
        """Take the newest good model of the cache into service; False when there is none."""
        for kept in self._kept():
            try:
                self._take(self._load(kept["version"], self._cache / kept["directory"]))
            except Exception as error:
                log.warning(
                    "a cached model can't be used", version=kept.get("version"), reason=str(error)
                )
            else:
                return True
        return False

    def refresh(self) -> bool:
        """Take training's champion into service, unless it is there already.

        False when that failed; `problem` says why.
        """
        try:
            champion = self._champion()
            if champion is None:
                self._settled = True
                return self._keep(NoChampionError("training has no champion"))
            model = self._fetch(champion.version)
            if model is not self.current:
                self._take(model)
                self._remember()
        except Exception as error:
            return self._keep(error)
        finally:
            shutil.rmtree(self._cache / _INCOMING, ignore_errors=True)
        self.problem = ""
        return True

    async def check(self) -> None:
        """Readiness: raises while there may be a champion, and no model was in service yet.

        Once it has passed, it passes. A pod that replaces another one must not answer without the
        model that the other one has. A shop without a champion is answered without one.
        """
        if self._required and not self._settled:
            raise RuntimeError(self.problem or "the champion is being fetched")

    def follow_alias(self, stop: threading.Event, poll_s: float) -> None:
        """Refresh at once, after each event, and every `poll_s` seconds, if an event was lost."""
        if self.current is None:
            self.restore()
        while not stop.is_set():
            self._wake.clear()
            request, self._request = self._request, ""
            with carrying(request):
                self.refresh()
            pause = poll_s if self._settled else min(poll_s, _UNSETTLED_S)
            deadline = time.monotonic() + pause
            while not stop.is_set() and not self._wake.wait(0.1) and time.monotonic() < deadline:
                pass

    def follow_cache(self, stop: threading.Event) -> None:
        """Take into service what another process of this service has put into the cache."""
        if self.current is None:
            self.restore()
        while not stop.wait(_FOLLOW_S if self._settled else _UNSETTLED_S):
            try:
                kept = next(iter(self._kept()), None)
                if kept is None:
                    self._settled = self._settled or self._champion() is None
                elif self.current is None or not _is_kept(self.current, kept):
                    former = (
                        self.previous if self.previous and _is_kept(self.previous, kept) else None
                    )
                    self._take(
                        former or self._load(kept["version"], self._cache / kept["directory"])
                    )
            except Exception as error:
                self._keep(error)
            else:
                self.problem = ""

    def follow_events(
        self, consumer: Consumer, stop: threading.Event, watch: ConsumerWatch
    ) -> None:
        """Read `model-events.v1` until `stop` is set; ask for a refresh after each promotion."""
        consume(consumer, self._on_events, stop, watch)

    def _on_events(self, batch: Batch) -> None:
        for message in batch.messages:
            if message.record.alias != CHAMPION:
                continue
            with carrying(message.request_id):
                log.info(
                    "the champion changed",
                    version=message.record.version,
                    event_type=message.record.event,
                )
            self._request = message.request_id
            self._wake.set()

    def _champion(self) -> ModelVersion | None:
        """The champion by training's alias; None where training says that there is none."""
        try:
            answer = self._training.get(f"/v1/aliases/{CHAMPION}")
        except PeerError as error:
            if error.status == 404:
                return None
            raise
        return ModelVersion.model_validate(answer)

    def _fetch(self, version: str) -> Model:
        """The model of a version: one of the two at hand, or from the cache, or downloaded."""
        self._cache.mkdir(parents=True, exist_ok=True)
        files = f"/v1/models/{quote(version, safe='')}/files"
        incoming = self._cache / _INCOMING
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        self._training.download(f"{files}/manifest.json", incoming / "manifest.json")
        text = (incoming / "manifest.json").read_bytes()
        directory = self._cache / folder_name(text)
        for model in (self.current, self.previous):
            if model is not None and (model.directory, model.version) == (directory, version):
                return model
        if directory.exists():
            try:
                return self._load(version, directory)
            except BundleError as error:
                log.warning(
                    "the cached bundle is damaged and fetched again",
                    version=version,
                    reason=str(error),
                )
                shutil.rmtree(directory)
        for name in Manifest.model_validate_json(text).files:
            if Path(name).name != name:
                raise BundleError(f"the manifest names a file outside its folder: {name}")
            self._training.download(f"{files}/{quote(name, safe='')}", incoming / name)
        bundle = load_bundle(incoming)
        incoming.rename(directory)
        return self._warm(version, bundle, directory)

    def _load(self, version: str, directory: Path) -> Model:
        return self._warm(version, load_bundle(directory), directory)

    def _warm(self, version: str, bundle: Bundle, directory: Path) -> Model:
        model = Model(version, bundle, directory, now_ms())
        self._warm_up(model)
        return model

    def _take(self, model: Model) -> None:
        self.previous, self.current = self.current, model
        self._settled = True
        self._measured.model.clear()
        self._measured.model.labels(model.version).set(1)
        self._measured.model_loaded_at.set(model.loaded_at / 1000)
        self._measured.model_swaps.labels("taken").inc()
        log.info(
            "model in service",
            version=model.version,
            previous=self.previous.version if self.previous else None,
        )

    def _keep(self, error: Exception) -> bool:
        problem = f"{type(error).__name__}: {error}"
        if isinstance(error, NoChampionError) and self.current is None:
            problem = "training has no champion yet"
        elif problem != self.problem:
            self._measured.model_swaps.labels("failed").inc()
            expected = isinstance(error, _EXPECTED)
            log.warning(
                "the champion could not be taken",
                reason=problem,
                exc_info=None if expected else error,
            )
        self.problem = problem
        return False

    def _kept(self) -> list[dict[str, str]]:
        try:
            return [dict(entry) for entry in json.loads((self._cache / _KEPT).read_text())]
        except (OSError, ValueError):
            return []

    def _remember(self) -> None:
        """Name the present and the previous model on disk, and drop all other bundles.

        Other files stay: an operator may have named a folder that holds more than bundles.
        """
        models = [model for model in (self.current, self.previous) if model is not None]
        text = json.dumps(
            [{"version": model.version, "directory": model.directory.name} for model in models]
        )
        (self._cache / f"{_KEPT}.part").write_text(text)
        (self._cache / f"{_KEPT}.part").rename(self._cache / _KEPT)
        kept = {model.directory.name for model in models}
        for path in self._cache.iterdir():
            if path.name not in kept and is_bundle(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_kept(model: Model, kept: Mapping[str, str]) -> bool:
    return (model.version, model.directory.name) == (kept["version"], kept["directory"])
