"""What an instance of training can't do once another one has its lease."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.training.metrics import TrainingMetrics
from services.training.migrations import MIGRATIONS
from services.training.mlflow_connection import tracking_uri
from services.training.model_events import Announcer
from services.training.publish import ModelPublisher
from services.training.registry import ModelRegistry
from services.training.repository import ModelEventBook, Repository
from services.training.settings import TrainingSection
from slipstream.chassis.settings import ArtifactSettings, DatabaseSettings
from slipstream.contracts.vocabulary import CHAMPION
from slipstream.stores import metadata
from slipstream.stores.artifacts import Artifacts
from slipstream.stores.lease import Lease, LeaseHeldError, LeaseLostError
from slipstream.stores.migrations import migrate
from tests.unit.training.challengers import bundle, result_of


class Instance:
    """Training's decisions with a lease, on engines of its own; `now` is its clock in seconds."""

    now = 0.0

    def __init__(self, settings: DatabaseSettings, folder: Path) -> None:
        self.engine = metadata.engine(settings)
        migrate(self.engine, MIGRATIONS)
        self.lease = Lease("training", 15.0, clock=lambda: Instance.now)
        self.repository, self.book = Repository(self.engine), ModelEventBook(self.engine)
        self.artifacts = Artifacts(ArtifactSettings(directory=folder / "models"))
        self.registry = ModelRegistry(
            tracking_uri("", settings), self.artifacts, guard=self.lease.guard
        )
        self.publisher = ModelPublisher(
            self.registry,
            self.repository,
            self.artifacts,
            self.book,
            lambda: None,
            TrainingSection(),
            TrainingMetrics(CollectorRegistry()),
            "/lake",
        )

    def take(self) -> None:
        self.lease.take(self.engine)
        self.registry.open()

    def champion(self) -> str | None:
        model = self.registry.alias(CHAMPION)
        return model.version if model else None


@pytest.fixture
def instances(
    database_settings: DatabaseSettings, mlflow_template: Path, tmp_path: Path
) -> Iterator[tuple[Instance, Instance]]:
    if database_settings.url.get_secret_value().startswith("sqlite"):
        shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    made = Instance(database_settings, tmp_path), Instance(database_settings, tmp_path)
    yield made
    for instance in made:
        instance.engine.dispose()


def test_it_moves_no_alias_keeps_no_decision_and_announces_nothing(
    instances: tuple[Instance, Instance], tmp_path: Path
) -> None:
    first, second = instances
    first.take()
    assert first.publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=0.05)).promoted
    assert not first.publisher.publish(
        "b", bundle(tmp_path, "b"), result_of(popularity=-0.05)
    ).promoted
    first.publisher.promote("b", "by hand")
    run = first.repository.add("r", "request", "", "fast")
    told = len(first.book.unannounced())
    with pytest.raises(LeaseHeldError):
        second.take()
    Instance.now += 15
    second.lease.take(second.engine)  # its registry opens later, by which MLflow's guard changes

    with pytest.raises(LeaseLostError):
        first.publisher.promote("a", "late")
    with pytest.raises(LeaseLostError):
        first.publisher.publish(
            "c", bundle(tmp_path, "c"), result_of(0.5, champion=0.5, version="b")
        )
    with pytest.raises(LeaseLostError):
        first.publisher.rollback("late")
    with pytest.raises(LeaseLostError):
        first.repository.start(run.run_id)
    with pytest.raises(LeaseLostError):
        Announcer(first.book, _fail, first.lease.renew).announce()

    second.registry.open()
    assert second.champion() == "b"
    assert len(second.book.unannounced()) == told
    assert second.repository.in_state("queued") == [run]
    assert second.repository.decisions("c") == []
    assert [model.version for model in second.registry.versions(10)[0]] == ["b", "a"]
    second.publisher.rollback("by the one that may")
    assert second.champion() == "a"


async def _fail(_records: object) -> None:
    raise AssertionError("it announced")
