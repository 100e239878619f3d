"""The models of variants of experiments, in addition to the champion.

Each is downloaded, verified and warmed up as the champion is, and let go when no experiment names
it. The champion answers for a variant with a model that is not held.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from services.serving.metrics import ServingMetrics
from services.serving.state.model_cache import VARIANTS, ModelCache, is_deleted
from services.serving.state.model_holder import EXPECTED, ModelHolder
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.rest import ModelVersion
from slipstream.contracts.times import now_ms
from slipstream.contracts.vocabulary import ALIASES
from slipstream.recommender.bundle import Bundle, load_bundle
from slipstream.slates.catalogue.model import Model

log = get_logger(__name__)

# Pause between looks at what experiments want, and at what another process has put into the cache.
_LOOK_S: Final = 0.2
# Pause between attempts while training can't be asked.
_RETRY_S: Final = 1.0
# Pause of a follower after a bundle that can't be loaded.
_FAULTY_S: Final = 5.0


class TooManyModelsError(Exception):
    """There are as many models as may be held."""


class NoModelError(LookupError):
    """No version has the alias."""


class VariantModels:
    """The models by the name that variants give: an alias or a version.

    Requests read `held`, which is replaced as a whole. One worker runs `follow_training` in the
    first process, `follow_cache` in each other one. While a model of a name is replaced, both are
    in memory; there are never more of one name.

    Args:
        training: The service that resolves aliases.
        champion: The holder of the champion. Its models are shared.
        warm_up: Called with a new model before it takes over; an error keeps the model out.
        wanted: Returns the names that experiments give; None while it is unknown.
        most: Most models in addition to the champion.

    Attributes:
        held: The models at hand, by name.
        problems: Why the newest model of a name is not held, by name.
    """

    def __init__(
        self,
        training: Peer,
        cache: ModelCache,
        champion: ModelHolder,
        measured: ServingMetrics,
        warm_up: Callable[[Model], None],
        wanted: Callable[[], Sequence[str] | None],
        most: int,
    ) -> None:
        self._training, self._cache, self._champion = training, cache, champion
        self._measured, self._warm_up = measured, warm_up
        self._wanted, self._most = wanted, most
        self._wake = threading.Event()
        self.held: Mapping[str, Model] = {}
        self.problems: Mapping[str, str] = {}

    def get(self, name: str) -> Model | None:
        """The model of a name; None where it is not at hand."""
        return self.held.get(name)

    def report(self) -> list[dict[str, Any]]:
        """The version of each name that is wanted, null where none is held, and the problem."""
        names = sorted({*self.held, *self.problems})
        return [
            {
                "model": name,
                "version": self.held[name].version if name in self.held else None,
                "problem": self.problems.get(name, ""),
            }
            for name in names
        ]

    def moved(self, alias: str) -> None:
        """Ask training at once: an alias has moved. Safe from any thread."""
        if alias in (self._wanted() or ()):
            self._wake.set()

    def follow_training(self, stop: threading.Event, poll_s: float) -> None:
        """Hold what is wanted, as training has it, until `stop` is set.

        Training is asked after each event and change of what is wanted, and every `poll_s` seconds.
        """
        while not stop.is_set():
            self._wake.clear()
            wanted = self._wanted()
            is_reached = self.refresh()
            deadline = time.monotonic() + (poll_s if is_reached else min(poll_s, _RETRY_S))
            while (
                not stop.is_set()
                and not self._wake.wait(_LOOK_S)
                and time.monotonic() < deadline
                and self._wanted() == wanted
            ):
                pass

    def follow_cache(self, stop: threading.Event) -> None:
        """Hold what is wanted, as the first process has put it into the cache."""
        while not stop.is_set():
            stop.wait(_LOOK_S if self.follow() else _FAULTY_S)

    def refresh(self) -> bool:
        """Hold what is wanted, as training has it now; False where it could not be asked."""
        names = self._wanted()
        if names is None:
            return True
        self._keep_only(names)
        entries, problems, is_reached = self._entries(), dict[str, str](), True
        for name in self._in_turn(names):
            if name not in self.held and name in entries:
                self._restore(name, entries[name])
            try:
                self._take(name, self._fetch(name))
            except Exception as error:
                problems[name] = self._described(name, error)
                if isinstance(error, NoModelError | TooManyModelsError) or (
                    isinstance(error, PeerError)
                    and error.status == 404
                    and is_deleted(self._training, name)
                ):
                    self._keep_only([held for held in self.held if held != name])
                is_reached &= not isinstance(error, PeerError) or _is_answer(error)
            finally:
                self._cache.discard_incoming(VARIANTS)
        held = [{"name": name, **model.entry} for name, model in self.held.items()]
        if held != self._cache.listed(VARIANTS):
            self._cache.put_list(VARIANTS, held)
        self.problems = problems
        return is_reached

    def _restore(self, name: str, entry: dict[str, str]) -> None:
        """Hold the model that a name had before a restart, until training has told a newer one."""
        try:
            self._take(name, self._load(name, entry))
        except Exception as error:
            log.warning("a cached model can't be used", name=name, reason=str(error))

    def _entries(self) -> dict[str, dict[str, str]]:
        """The entries of the list, by the name that a variant gives and that each entry holds."""
        return {entry.pop("name", ""): entry for entry in self._cache.listed(VARIANTS)}

    def follow(self) -> bool:
        """Hold what is wanted, as the cache has it; False where a bundle can't be loaded."""
        names = self._wanted()
        if names is None:
            return True
        entries = self._entries()
        self._keep_only([name for name in names if name in entries])
        problems, are_sound = dict[str, str](), True
        for name in self._in_turn(names):
            if name not in entries:
                problems[name] = "not fetched yet: the first process tells why"
                continue
            try:
                self._take(name, self._load(name, entries[name]))
            except Exception as error:
                problems[name] = self._described(name, error)
                are_sound &= isinstance(error, TooManyModelsError)
        self.problems = problems
        return are_sound

    def _in_turn(self, names: Iterable[str]) -> list[str]:
        """The names, each once: those with a model first, so that none is let go for another."""
        return sorted(dict.fromkeys(names), key=lambda name: name not in self.held)

    def _keep_only(self, names: Collection[str]) -> None:
        rest = {name: model for name, model in self.held.items() if name in names}
        if rest != self.held:
            log.info("models of variants let go", names=sorted({*self.held} - {*rest}))
            self._hold(rest)

    def _fetch(self, name: str) -> Model:
        place = self._cache.place(self._version(name), VARIANTS)
        at_hand = self._at_hand(name, place.entry)
        if at_hand is not None:
            return at_hand
        bundle = self._cache.bundle(place, VARIANTS, lambda: None)
        return self._warm(place.version, bundle, place.directory)

    def _load(self, name: str, entry: dict[str, str]) -> Model:
        at_hand = self._at_hand(name, entry)
        if at_hand is not None:
            return at_hand
        folder = self._cache.folder_of(entry)
        return self._warm(entry["version"], load_bundle(folder), folder)

    def _warm(self, version: str, bundle: Bundle, directory: Path) -> Model:
        model = Model(version, bundle, directory, now_ms())
        self._warm_up(model)
        return model

    def _version(self, name: str) -> str:
        if name not in ALIASES:
            return name
        try:
            answer = self._training.get(f"/v1/aliases/{name}")
        except PeerError as error:
            if error.status == 404:
                raise NoModelError(f"no model is {name}") from error
            raise
        return ModelVersion.model_validate(answer).version

    def _at_hand(self, name: str, entry: dict[str, str]) -> Model | None:
        """A model in memory. Raises TooManyModelsError where the name may have none of its own."""
        of_champion = {self._champion.current, self._champion.previous}
        others = {model for held, model in self.held.items() if held != name}
        for model in (*of_champion, *others):
            if model is not None and model.entry == entry:
                return model
        if len(others - of_champion) >= self._most:
            raise TooManyModelsError(
                f"{self._most} models are held in addition to the champion, which is the limit "
                "(SLIPSTREAM_SERVING__VARIANT_MODELS)"
            )
        own = self.held.get(name)
        return own if own is not None and own.entry == entry else None

    def _take(self, name: str, model: Model) -> None:
        if self.held.get(name) is not model:
            self._hold({**self.held, name: model})
            log.info("model of a variant in service", name=name, version=model.version)

    def _hold(self, models: Mapping[str, Model]) -> None:
        self.held = models
        self._measured.variant_model.clear()
        for name, model in models.items():
            self._measured.variant_model.labels(name, model.version).set(1)

    def _described(self, name: str, error: Exception) -> str:
        problem = f"{type(error).__name__}: {error}"
        if problem != self.problems.get(name):
            expected = isinstance(error, EXPECTED | NoModelError | TooManyModelsError)
            log.warning(
                "the model of a variant could not be taken",
                name=name,
                reason=problem,
                exc_info=None if expected else error,
            )
        return problem


def _is_answer(error: PeerError) -> bool:
    """Whether the peer has judged the request, and would do so again."""
    return error.status is not None and error.status < 500
