"""Versions from before an erasure, on a real MLflow, SQL and lake; no run is computed."""

import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock, create_autospec

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from services.training.erasures import ModelDeletion
from services.training.lake_erasures import Erasures
from services.training.metrics import TrainingMetrics
from services.training.publish import ModelPublisher
from services.training.registry import ModelRegistry
from services.training.repository import AUDIT, ModelEventBook, Repository
from services.training.runs import Runs
from services.training.settings import TrainingSection
from slipstream.contracts.events import ModelEventType
from slipstream.contracts.rest import ModelsBeforeErasure
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.contracts.vocabulary import CANARY, CHALLENGER, CHAMPION
from slipstream.stores.artifacts import Artifacts
from slipstream.stores.lake import Lake
from slipstream.stores.metadata import AuditLog
from tests.integration.byte_search import files_with
from tests.unit.training.challengers import bundle, result_of
from tests.unit.training.registries import version_of
from tests.unit.training.test_lake_erasures import erase

# The lake's version without the erased rows.
VERSION = 7
PLANTED = "seen-by-the-erased-only"
SETTINGS = TrainingSection(erasure_hours=8)


class Scene:
    """A registry of versions from before or after an erasure that was done just now."""

    def __init__(
        self,
        registry: ModelRegistry,
        artifacts: Artifacts,
        repository: Repository,
        engine: Engine,
        lake: Lake,
        folder: Path,
    ) -> None:
        self.registry, self.repository, self.folder = registry, repository, folder
        self.events, self.artifacts, self.lake = ModelEventBook(engine), artifacts, lake
        self.metrics = CollectorRegistry()
        metrics = TrainingMetrics(self.metrics)
        self.publisher = ModelPublisher(
            registry, repository, artifacts, self.events, lambda: None, SETTINGS, metrics, "/lake"
        )
        self.runs: Mock = create_autospec(Runs, instance=True)
        self.audit = AuditLog(engine, AUDIT)
        self.deletion = ModelDeletion(
            Erasures(lake), self.publisher, self.runs, self.audit, metrics, SETTINGS
        )
        self.erased_at = now_ms() + HOUR_MS

    def publish(self, version: str, lake_version: int, popularity: float = 0.05) -> None:
        """A version with the planted text in bundle and report; the first becomes champion."""
        made = bundle(
            self.folder,
            version,
            lake_version=lake_version,
            created_at=self.erased_at + (1 if lake_version >= VERSION else -1),
        )
        (made / "items.json").write_text(PLANTED)
        result = result_of(popularity=popularity)
        result.environment["report"] = PLANTED if lake_version < VERSION else ""
        self.publisher.publish(version, made, result)

    def at(self, hours: float) -> None:
        """The job's step so many hours after the erasure."""
        self.deletion.step(self.erased_at + int(hours * HOUR_MS))

    def run(self, hours: float) -> None:
        """A run that nothing came of, begun so many hours after the erasure and ended at once."""
        at = self.erased_at + int(hours * HOUR_MS)
        number = f"run-{hours}"
        self.repository.add(number, "erasure", "", "fast")
        with self.repository._engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE training_run SET state = 'failed', created_at = ?, finished_at = ? "
                "WHERE run_id = ?",
                (at, at, number),
            )

    def champion(self) -> str | None:
        return version_of(self.registry.alias(CHAMPION))

    def versions(self) -> list[str]:
        return [model.version for model in self.registry.kept()]

    @property
    def warning(self) -> float | None:
        return self.metrics.get_sample_value("slipstream_training_champion_deleted_at_seconds")


@pytest.fixture
def scene(
    registry: ModelRegistry,
    artifacts: Artifacts,
    repository: Repository,
    engine: Engine,
    lake: Lake,
    tmp_path: Path,
) -> Iterator[Scene]:
    (tmp_path / "runs").mkdir()
    made = Scene(registry, artifacts, repository, engine, lake, tmp_path / "runs")
    erase(lake, VERSION, made.erased_at)
    yield made


def test_without_a_successor_runs_are_asked_for_from_half_of_the_time_on(scene: Scene) -> None:
    scene.publish("a", 3)
    scene.at(3.9)
    assert not scene.runs.request_unless_busy.called and scene.warning == 0
    scene.at(4)
    (request,) = scene.runs.request_unless_busy.call_args.args
    assert request.trigger == "erasure" and "champion a is deleted by" in request.reason
    assert scene.warning == (scene.erased_at + 8 * HOUR_MS) / 1000
    scene.run(4.1)
    scene.at(5)
    assert scene.runs.request_unless_busy.call_count == 1, "a quarter of the rest is not over"
    scene.at(5.2)
    assert scene.runs.request_unless_busy.call_count == 2
    assert scene.champion() == "a"


def test_the_newest_sound_version_is_the_successor_and_all_from_before_are_deleted(
    scene: Scene,
) -> None:
    scene.publish("a", 3)
    scene.publish("b", 5)
    scene.publish("c", 7)
    scene.publish("worse", 8, popularity=-0.05)
    scene.publisher.set_canary("b", "trial")
    scene.at(7.9)
    assert (scene.champion(), scene.warning) == ("a", 0)
    assert not scene.runs.request_unless_busy.called
    scene.at(8)
    assert (scene.champion(), scene.versions()) == ("c", ["worse", "c"])
    assert scene.registry.alias(CANARY) is None
    assert [scene.events.has(v, ModelEventType.DELETED) for v in ("a", "b", "c")] == [
        True, True, False,
    ]  # fmt: skip
    acts = [(record.action, record.subject) for record in scene.audit.page(9, None).items]
    assert acts == [("delete_model", "a"), ("delete_model", "b"), ("promote", "c")]
    assert {record.principal for record in scene.audit.page(9, None).items} == {"training"}


def test_a_version_that_was_rolled_back_is_no_successor(scene: Scene) -> None:
    scene.publish("a", 3)
    scene.publish("b", 7)
    scene.publisher.promote("b", "trial")
    scene.publisher.rollback("worse in service")
    scene.run(5)
    scene.at(8)
    assert (scene.champion(), scene.versions()) == (None, ["b"])


def test_a_champion_without_a_successor_goes_after_one_run(scene: Scene) -> None:
    scene.publish("a", 3)
    scene.run(3)
    scene.at(9)
    assert scene.champion() == "a", "the service was unavailable, and has a run first"
    assert scene.runs.request_unless_busy.called
    scene.run(9.1)
    scene.at(9.2)
    assert (scene.champion(), scene.versions(), scene.artifacts.versions()) == (None, [], [])
    assert scene.warning == 0


def test_no_byte_of_a_deleted_version_is_left_on_the_disk(
    scene: Scene, tmp_path: Path, mlflow_template: Path
) -> None:
    scene.publish("a", 3)
    scene.publish("b", 7)
    client = scene.registry.mlflow.client()
    runs = {
        run.info.run_name: run for run in client.search_runs([scene.registry.mlflow.experiment])
    }
    kept = [tmp_path / "models", mlflow_template.parent]
    names = {run.info.run_id: name for name, run in runs.items()}

    def found() -> set[str]:
        paths = [path for folder in kept for path in files_with((PLANTED, '"version":"a"'), folder)]
        return {part for path in paths for part in Path(path).parts if part in {"a", *names}}

    a, b = runs["a"].info.run_id, runs["b"].info.run_id
    assert found() >= {"a", a}
    scene.at(8)
    assert not found() & {"a", a}
    assert scene.artifacts.report("b").exists() and client.list_artifacts(b)
    assert client.get_run(a).data.metrics["ndcg_at_10"] == 0.1, "figures stay"


@pytest.mark.parametrize("lost", ["delete", "delete_files", "delete_model_version"])
def test_a_deletion_that_is_killed_is_done_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    scene.publish("a", 3)
    scene.publish("b", 7)
    place = {
        "delete": scene.artifacts,
        "delete_files": scene.registry._experiments,
        "delete_model_version": scene.registry.mlflow.client(),
    }[lost]
    with monkeypatch.context() as killed:
        killed.setattr(place, lost, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scene.at(8)
    scene.at(8)
    assert (scene.versions(), scene.artifacts.versions()) == (["b"], ["b"])
    assert len(scene.events._all(ModelEventType.DELETED)) == 1


def test_a_bundle_that_a_lost_registry_left_is_deleted(scene: Scene) -> None:
    made = bundle(scene.folder, "lost", lake_version=3)
    scene.artifacts.put("lost", made)
    scene.at(7.9)
    assert scene.versions() == ["lost"]
    scene.at(8)
    assert scene.artifacts.versions() == []


def test_a_run_that_has_read_the_rows_is_cancelled_and_its_version_goes_after_its_end(
    scene: Scene,
) -> None:
    scene.publish("a", 3, popularity=-0.05)
    scene.repository.add("a", "schedule", "", "fast")
    scene.repository.start("a")
    scene.repository.note("a", lake_version=3)
    scene.at(7.9)
    assert not scene.runs.cancel.called
    scene.at(8)
    scene.runs.cancel.assert_called_once_with("a")
    assert scene.versions() == ["a"]
    scene.repository.finish("a", "cancelled")
    scene.at(8)
    assert scene.versions() == []
    assert scene.registry.alias(CHALLENGER) is None


def test_a_killed_run_that_has_read_the_rows_is_cancelled_before_it_starts_again(
    scene: Scene,
) -> None:
    scene.repository.add("a", "schedule", "", "fast")
    scene.repository.start("a")
    scene.repository.note("a", lake_version=3)
    scene.repository.queue_again("a", "killed")
    scene.at(8)
    scene.runs.cancel.assert_called_once_with("a")


def test_it_tells_what_is_from_before_an_erasure_and_until_when(scene: Scene) -> None:
    scene.publish("a", 3)
    scene.publish("b", 7)
    assert scene.deletion.before(VERSION, scene.erased_at) == ModelsBeforeErasure(
        versions=["a"], runs=[], deleted_by=scene.erased_at + 8 * HOUR_MS
    )
    assert scene.deletion.before(3, 0).versions == []
    scene.repository.add("later", "schedule", "", "fast")
    scene.repository.start("later")
    scene.repository.note("later", lake_version=VERSION)
    scene.at(8)
    told = scene.deletion.before(VERSION, scene.erased_at)
    assert (told.versions, told.runs) == ([], ["later"]), "it may hold the champion of its start"
    scene.repository.finish("later", "failed")
    assert scene.deletion.before(VERSION, scene.erased_at).runs == []


def test_it_looks_until_it_is_stopped(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    step, stop = Mock(), create_autospec(threading.Event, instance=True)
    stop.wait.side_effect = [False, False, True]
    monkeypatch.setattr(ModelDeletion, "step", step)
    monkeypatch.setattr(scene.registry, "wait_opened", lambda _: True)
    scene.deletion.run(stop)
    assert step.call_count == 2
