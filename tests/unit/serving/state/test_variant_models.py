"""The models of variants: fetched, shared, held at most, let go, and found after a start."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.serving.metrics import ServingMetrics
from services.serving.state import variant_models
from services.serving.state.model_cache import ModelCache
from services.serving.state.model_holder import ModelHolder
from services.serving.state.variant_models import VariantModels
from slipstream.chassis.client import Peer
from slipstream.recommender.bundle import Bundle
from slipstream.slates.catalogue.model import Model
from tests.unit.serving.state.training_stub import TrainingStub
from tests.waiting import until


class Scene:
    """A process of serving whose experiments want the models of `wanted`."""

    def __init__(self, training: TrainingStub, cache: Path, most: int = 2) -> None:
        peer = Peer("training", "http://training", retries=0, transport=training.transport())
        cached = ModelCache(peer, cache)
        measured = ServingMetrics(CollectorRegistry())
        self.wanted: list[str] | None = []
        self.warm_up: Callable[[Model], None] = lambda _: None
        self.champion = ModelHolder(
            peer, cached, measured, beside=lambda: self.models.held.values()
        )
        self.models = VariantModels(
            peer,
            cached,
            self.champion,
            measured,
            lambda model: self.warm_up(model),
            lambda: self.wanted,
            most,
        )

    @property
    def held(self) -> dict[str, str]:
        return {name: model.version for name, model in self.models.held.items()}


@pytest.fixture
def training(tmp_path: Path, bundle: Bundle) -> TrainingStub:
    stub = TrainingStub(tmp_path / "training")
    stub.publish(bundle, "1")
    for version in ("2", "3", "4"):
        stub.register(bundle, version)
    return stub


@pytest.fixture
def scene(training: TrainingStub, tmp_path: Path) -> Scene:
    made = Scene(training, tmp_path / "cache")
    assert made.champion.refresh()
    return made


def bundles(tmp_path: Path) -> int:
    return sum(path.is_dir() for path in (tmp_path / "cache").iterdir())


def test_an_alias_is_followed_and_let_go_when_nobody_wants_it(
    scene: Scene, training: TrainingStub, tmp_path: Path
) -> None:
    scene.wanted = ["canary"]
    assert scene.models.refresh() and scene.held == {}
    assert "no model is canary" in scene.models.problems["canary"]
    training.canary = "2"
    assert scene.models.refresh() and scene.held == {"canary": "2"}
    assert scene.models.report() == [{"model": "canary", "version": "2", "problem": ""}]
    first = scene.models.get("canary")
    scene.models.refresh()
    assert scene.models.get("canary") is first
    training.canary = "3"
    scene.models.refresh()
    assert scene.held == {"canary": "3"}
    training.canary = None
    scene.models.refresh()
    assert scene.held == {}, "an alias that is gone names no model"
    training.canary = "3"
    scene.models.refresh()
    scene.wanted = []
    scene.models.refresh()
    assert (scene.held, scene.models.report(), bundles(tmp_path)) == ({}, [], 1)


def test_a_deleted_version_is_let_go_and_one_whose_files_are_gone_is_not(
    scene: Scene, training: TrainingStub
) -> None:
    scene.wanted, training.gone = ["2", "3"], {"2", "3"}
    scene.models.refresh()
    assert scene.held == {}
    training.gone = set()
    scene.models.refresh()
    training.gone, training.deleted = {"2"}, {"3"}
    scene.models.refresh()
    assert scene.held == {"2": "2"}


def test_what_is_unknown_yet_changes_nothing(scene: Scene) -> None:
    scene.wanted = ["2"]
    scene.models.refresh()
    scene.wanted = None
    assert scene.models.refresh() and scene.models.follow()
    assert scene.held == {"2": "2"}


def test_no_more_than_two_of_a_name_are_in_memory(scene: Scene, training: TrainingStub) -> None:
    in_memory: list[list[str]] = []

    def note(model: Model) -> None:
        in_memory.append([*scene.held.values(), model.version])

    scene.warm_up, scene.wanted = note, ["canary"]
    for version in ("2", "3", "4"):
        training.canary = version
        scene.models.refresh()
    assert in_memory == [["2"], ["2", "3"], ["3", "4"]]


def test_one_too_many_is_refused_and_says_so(scene: Scene) -> None:
    scene.wanted = ["4", "3", "2"]
    scene.models.refresh()
    assert scene.held == {"4": "4", "3": "3"}
    assert "2 models are held in addition to the champion" in scene.models.problems["2"]
    scene.wanted = ["2", "3", "4"]
    scene.models.refresh()
    assert set(scene.held) == {"3", "4"}, "none is let go for another"
    scene.wanted = ["2", "3"]
    scene.models.refresh()
    assert set(scene.held) == {"2", "3"} and not scene.models.problems


def test_the_champions_models_are_shared_both_ways(scene: Scene, training: TrainingStub) -> None:
    scene.wanted, training.canary = ["canary", "1"], "2"
    scene.models.refresh()
    assert scene.models.get("1") is scene.champion.current
    canary, training.champion = scene.models.get("canary"), "2"
    training.downloads.clear()
    scene.champion.refresh()
    assert scene.champion.current is canary and training.downloads == ["manifest.json"]
    for version in ("3", "4"):
        training.champion = version
        scene.champion.refresh()
    scene.wanted = ["canary", "1", "3"]
    scene.models.refresh()
    assert set(scene.held) == {"canary", "1", "3"}, "the champion's own ones take no room"


def test_a_faulty_one_keeps_the_one_before(scene: Scene, training: TrainingStub) -> None:
    def refuse_third(model: Model) -> None:
        if model.version == "3":
            raise ValueError("nothing to recommend")

    scene.wanted, training.canary, scene.warm_up = ["canary"], "2", refuse_third
    scene.models.refresh()
    training.canary = "3"
    assert scene.models.refresh()
    assert scene.held == {"canary": "2"}
    assert "nothing to recommend" in scene.models.problems["canary"]
    training.away = True
    assert not scene.models.refresh() and scene.held == {"canary": "2"}


def test_a_restart_needs_no_training(scene: Scene, training: TrainingStub, tmp_path: Path) -> None:
    scene.wanted, training.canary = ["canary", "3"], "2"
    scene.models.refresh()
    training.away = True
    restarted = Scene(training, tmp_path / "cache")
    restarted.champion.restore()
    restarted.wanted = ["3", "canary"]
    assert not restarted.models.refresh()
    assert restarted.held == {"canary": "2", "3": "3"}
    assert "refused" in restarted.models.problems["canary"]


def test_other_processes_take_what_the_first_one_has_fetched(
    scene: Scene, training: TrainingStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_models, "_LOOK_S", 0.01)
    follower, stop = Scene(training, tmp_path / "cache"), threading.Event()
    scene.wanted = follower.wanted = ["canary"]
    threads = [
        threading.Thread(target=scene.models.follow_training, args=(stop, 600)),
        threading.Thread(target=follower.models.follow_cache, args=(stop,)),
    ]
    for thread in threads:
        thread.start()
    try:
        until(lambda: "canary" in follower.models.problems and "canary" in scene.models.problems)
        training.canary = "2"
        scene.models.moved("canary")
        until(lambda: follower.held == {"canary": "2"} and not follower.models.problems)
        training.canary = "3"
        scene.models.moved("champion")
        scene.models.moved("canary")
        until(lambda: follower.held == {"canary": "3"})
        scene.wanted = ["canary", "4"]
        follower.wanted = ["4"]
        until(lambda: follower.held == {"4": "4"})
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
