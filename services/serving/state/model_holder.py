"""The model in service.

A new champion is downloaded, verified and warmed up before it takes over. Until then, and whenever
a new one is faulty, the present model stays.
"""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from services.serving.metrics import ServingMetrics
from services.serving.state.model_cache import ModelCache, is_deleted
from slipstream.broker.consumer import Consumer
from slipstream.broker.loop import consume
from slipstream.broker.records import Batch
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.logging import carrying, get_logger
from slipstream.contracts.events import ModelEventType
from slipstream.contracts.rest import ModelVersion
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import ALIASES, CHAMPION
from slipstream.recommender.bundle import Bundle, BundleError, load_bundle
from slipstream.slates.catalogue.model import Model
from slipstream.stores.artifacts import ForeignFileError

log = get_logger(__name__)

# Pause between two looks at the alias while it is not known whether there is a champion.
_UNSETTLED_S = 1.0
# Pause between looks at what another process has put into the cache.
_FOLLOW_S = 0.2


class NoChampionError(LookupError):
    """Training answers, and says that it has no champion."""


# Why a model can't be taken, without a fault of this program.
EXPECTED = PeerError | BundleError | ForeignFileError | ValidationError | OSError | NoChampionError


class ModelHolder:
    """The champion and the model before it.

    Requests read `current`, one reference that is replaced as a whole. Two workers run
    `follow_events` and `follow_alias`; one thread at a time may call `refresh`. The one before goes
    before another is loaded, so that no more than two are in memory.

    The list in the cache names the present and the previous one, so that a restart needs no
    training service.

    Args:
        training: The service that names the champion.
        warm_up: Called with a new model before it takes over; an error keeps the model out.
        required: Whether a service without a model is unready until training has said that there
            is no champion.
        wait_s: Seconds after which it is ready nevertheless, where no champion could be had; 0
            waits without an end.
        beside: Returns models that others hold, one of which may become the champion.
        moved: Called with another alias that an event tells of.
    """

    def __init__(
        self,
        training: Peer,
        cache: ModelCache,
        measured: ServingMetrics,
        warm_up: Callable[[Model], None] = lambda _: None,
        *,
        required: bool = True,
        wait_s: float = 0.0,
        beside: Callable[[], Iterable[Model]] = tuple,
        moved: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._training, self._cache = training, cache
        self._beside, self._moved = beside, moved
        self._measured, self._warm_up = measured, warm_up
        self._wake = threading.Event()
        self._request = ""
        self._required, self._wait_s, self._since = required, wait_s, time.monotonic()
        # A model was in service, or training has said that there is none.
        self._settled = False
        self.current: Model | None = None
        self.previous: Model | None = None
        self.problem = ""

    def restore(self) -> bool:
        """Take the newest good model of the cache into service; False when there is none."""
        for kept in self._cache.listed(CHAMPION):
            try:
                self._take(self._load(kept))
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
                self._let_go()
                return self._keep(NoChampionError("training has no champion"))
            model = self._fetch(champion.version)
            if model is not self.current:
                self._take(model)
                self._list()
            self._let_go()
        except Exception as error:
            return self._keep(error)
        finally:
            self._cache.discard_incoming(CHAMPION)
        self.problem = ""
        return True

    async def check(self) -> None:
        """Readiness: raises while there may be a champion, and no model was in service yet.

        Once it has passed, it passes. A pod that replaces another one must not answer without the
        model that the other one has. A shop without a champion is answered without one. A pod that
        replaces none, but wakes for requests that are held, answers them late rather than never.
        """
        if not self._required or self._settled:
            return
        if self.problem and 0 < self._wait_s <= time.monotonic() - self._since:
            return
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
                entries = self._cache.listed(CHAMPION)
                kept = next(iter(entries), None)
                if self._cache.is_emptied(CHAMPION):
                    self.current = self.previous = None
                if kept is None:
                    self._settled = self._settled or self._champion() is None
                elif self.current is None or self.current.entry != kept:
                    self._take(self._at_hand(kept) or self._load(kept))
                if len(entries) == 1:
                    self._make_room()
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
            alias, version = message.record.alias, message.record.version
            deleted = message.record.event == ModelEventType.DELETED
            if deleted or (alias in ALIASES and alias != CHAMPION):
                self._moved(version if deleted else alias)
            if alias != CHAMPION and not deleted:
                continue
            with carrying(message.request_id):
                log.info(
                    "a model was deleted" if deleted else "the champion changed",
                    version=version,
                    event_type=message.record.event,
                )
            self._request = message.request_id
            self._wake.set()

    def _let_go(self) -> None:
        """Let go of models that training has deleted, in memory and on the disk."""
        for model in filter(None, (self.previous, self.current)):
            if is_deleted(self._training, model.version):
                log.warning("model let go, as training has deleted it", version=model.version)
                if model is self.current:
                    self.current = None
                    self._measured.model.clear()
                else:
                    self.previous = None
                self._list()

    def _list(self) -> None:
        held = (self.current, self.previous)
        self._cache.put_list(CHAMPION, [each.entry for each in held if each is not None])

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
        """The model of a version: one that is at hand, or from the cache, or downloaded."""
        place = self._cache.place(version, CHAMPION)
        at_hand = self._at_hand(place.entry)
        if at_hand is not None:
            return at_hand
        bundle = self._cache.bundle(place, CHAMPION, self._make_room)
        return self._warm(version, bundle, place.directory)

    def _make_room(self) -> None:
        self.previous = None

    def _at_hand(self, entry: dict[str, str]) -> Model | None:
        for model in (self.current, self.previous, *self._beside()):
            if model is not None and model.entry == entry:
                return model
        return None

    def _load(self, kept: dict[str, str]) -> Model:
        self._make_room()
        directory = self._cache.folder_of(kept)
        return self._warm(kept["version"], load_bundle(directory), directory)

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
            expected = isinstance(error, EXPECTED)
            log.warning(
                "the champion could not be taken",
                reason=problem,
                exc_info=None if expected else error,
            )
        self.problem = problem
        return False
