"""From a bundle to a decision in force: registry on real MLflow, audit in real SQL; the broker's
answers are the test's own.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from structlog.testing import capture_logs

from services.training.metrics import TrainingMetrics
from services.training.mlflow_connection import RegistryUnavailableError
from services.training.model_events import Announcer
from services.training.publish import ModelPublisher
from services.training.registry import ModelRegistry
from services.training.repository import ModelEventBook, Repository
from services.training.settings import GateSettings, TrainingSection
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.producer import OutgoingRecord
from slipstream.chassis.logging import carrying
from slipstream.contracts.steps import StepUsage
from slipstream.contracts.vocabulary import CHALLENGER, CHAMPION
from slipstream.recommender.scripted import ScriptedVisitors
from slipstream.stores.artifacts import ArtifactNotFoundError, Artifacts
from tests.unit.training.challengers import bundle, result_of


class Broker:
    """Takes what is published, or refuses it while `away`."""

    def __init__(self) -> None:
        self.away = False
        self.heard: list[tuple[str, str, str | None]] = []
        self.request_ids: list[str] = []

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        if self.away:
            raise BrokerUnavailableError("gone")
        events = [SimpleNamespace(**record.record.model_dump()) for record in records]
        self.request_ids += [record.request_id for record in records]
        self.heard += [(event.event, event.version, event.previous) for event in events]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def publisher(
    registry: ModelRegistry,
    artifacts: Artifacts,
    repository: Repository,
    engine: Engine,
    broker: Broker,
) -> ModelPublisher:
    """A publisher that announces events in the same thread, as soon as they are added."""
    settings = TrainingSection(gate=GateSettings(champion_max_age_hours=10**9))
    book = ModelEventBook(engine)
    announcer = Announcer(book, broker.publish)

    def announce() -> None:
        with suppress(BrokerUnavailableError):
            announcer.announce()

    metrics = TrainingMetrics(CollectorRegistry())
    return ModelPublisher(
        registry, repository, artifacts, book, announce, settings, metrics, "/lake"
    )


def test_champion_changes_only_for_the_better_and_every_step_is_told(
    publisher: ModelPublisher, broker: Broker, tmp_path: Path
) -> None:
    registry, repository = publisher.registry, publisher.repository

    def champion() -> str | None:
        model = registry.alias(CHAMPION)
        return model.version if model else None

    assert not publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=-0.05)).promoted
    assert champion() is None
    with carrying("r-7"):
        assert publisher.publish("b", bundle(tmp_path, "b"), result_of(popularity=0.05)).promoted
    assert not publisher.publish(
        "c", bundle(tmp_path, "c"), result_of(popularity=0.05, champion=-0.02, version="b")
    ).promoted
    assert champion() == "b"
    challenger = registry.alias(CHALLENGER)
    assert challenger is not None
    assert challenger.version == "c"
    assert publisher.publish(
        "d", bundle(tmp_path, "d"), result_of(popularity=0.05, champion=0.02, version="b")
    ).promoted
    assert publisher.rollback("worse in service").version == "b" == champion()

    assert broker.heard == [
        ("registered", "a", None), ("refused", "a", None),
        ("registered", "b", None), ("promoted", "b", None),
        ("registered", "c", None), ("refused", "c", "b"),
        ("registered", "d", None), ("promoted", "d", "b"),
        ("rolled_back", "b", "d"),
    ]  # fmt: skip
    assert broker.request_ids == ["", "", "r-7", "r-7", "", "", "", "", ""]
    audits = [repository.decisions(version)[0] for version in "abcd"]
    assert [(audit.outcome, audit.champion_version) for audit in audits] == [
        ("refused", None), ("promoted", None), ("refused", "b"), ("promoted", "b"),
    ]  # fmt: skip
    assert audits[3].numbers["champion/difference"] == pytest.approx(0.02)
    assert audits[3].settings["min_queries"] == 20

    broker.away = True
    assert publisher.promote("d", "by hand").aliases == ["champion"]
    assert champion() == "d"
    publisher.rollback("worse")
    assert (champion(), len(broker.heard)) == ("b", 9)
    broker.away = False
    publisher.wake()
    assert broker.heard[9:] == [("promoted", "d", "b"), ("rolled_back", "b", "d")]


def test_a_better_version_is_refused_while_the_data_is_at_fault(
    publisher: ModelPublisher, tmp_path: Path
) -> None:
    faults = ["data_fault: brands: missing"]
    held = replace(publisher, faults=lambda: faults)
    decision = held.publish("a", bundle(tmp_path, "a"), result_of(popularity=0.05))
    assert (decision.outcome, held.registry.alias(CHAMPION)) == ("refused", None)
    assert held.repository.decisions("a")[0].reason == decision.reason
    assert "data_fault: brands: missing" in decision.reason
    faults.clear()
    assert held.publish("b", bundle(tmp_path, "b"), result_of(popularity=0.05)).promoted
    assert held.promote("a", "by hand").aliases == ["champion"]


def test_a_decision_tells_how_many_visitors_were_left_out(
    publisher: ModelPublisher, tmp_path: Path
) -> None:
    scripted = ScriptedVisitors(60, 11_100, 0.27, {"rate": 60})
    result = result_of(popularity=0.05).model_copy(update={"scripted": scripted})
    with capture_logs() as lines:
        publisher.publish("a", bundle(tmp_path, "a"), result)
    (line,) = (line for line in lines if line["event"] == "gate")
    counts = [line[name] for name in ("questions", "scripted_visitors", "scripted_events")]
    assert counts == [100, 60, 11_100]
    (metric,) = publisher.metrics.scripted_share.collect()
    assert [sample.value for sample in metric.samples] == [0.27]


def test_steps_are_tags_of_versions_and_of_failed_runs(
    publisher: ModelPublisher, tmp_path: Path
) -> None:
    repository, client = publisher.repository, publisher.registry.mlflow.client()
    used = StepUsage(step="train", start=1, began_at=1, ended_at=2, processor_s=3_600)
    for run_id in ("a", "b"):
        repository.add(run_id, "request", "", "fast", key=f"key-{run_id}")
        repository.start(run_id)
        repository.note(
            run_id,
            stage="fitting the challenger",
            outputs={"snapshot": {"lake_version": 7}},
            usage=[used.model_dump()],
        )
    publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=0.05))
    publisher.note_failure(repository.finish("b", "failed", error="no data"))
    runs = client.search_runs([publisher.registry.mlflow.experiment])
    tags = {run.info.run_name: run.data.tags for run in runs}
    assert [tags[name]["key"] for name in "ab"] == ["key-a", "key-b"]
    assert [tags[name]["snapshot/lake_version"] for name in "ab"] == ["7", "7"]
    assert all('"processor_s":3600.0' in tags[name]["step/train"] for name in "ab")
    assert '"state":"succeeded"' in tags["a"]["step/promote"]
    assert '"state":"failed"' in tags["b"]["step/train"] and tags["b"]["error"] == "no data"
    assert {run.info.run_name: run.info.status for run in runs}["b"] == "FAILED"


def test_the_canary_is_told_and_the_champion_stays(
    publisher: ModelPublisher, broker: Broker, tmp_path: Path
) -> None:
    for version in "ab":
        publisher.publish(version, bundle(tmp_path, version), result_of(popularity=-0.05))
    assert "canary" in publisher.set_canary("a", "trial").aliases
    publisher.set_canary("b", "trial")
    assert publisher.remove_canary("worse").version == "b"
    events = [("alias_set", "a", None), ("alias_set", "b", "a"), ("alias_removed", "b", None)]
    assert broker.heard[-3:] == events and publisher.registry.alias(CHAMPION) is None


def test_a_champion_of_after_the_start_of_the_run_is_not_replaced_by_a_comparison_with_another(
    publisher: ModelPublisher, tmp_path: Path
) -> None:
    publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=0.05))
    publisher.publish("b", bundle(tmp_path, "b"), result_of(popularity=-0.05))
    publisher.promote("b", "while c was fitted")
    against_a = result_of(popularity=0.05, champion=0.02, version="a")
    against_a.champion_error = "the bundle of a can't be read"
    decision = publisher.publish("c", bundle(tmp_path, "c"), against_a)
    assert (decision.outcome, "champion b came into service" in decision.reason) == (
        "refused",
        True,
    )
    assert "champion/difference" not in decision.numbers
    assert publisher.repository.decisions("c")[0].champion_version == "b"


def test_a_version_tells_what_it_was_made_of_and_on(
    publisher: ModelPublisher, tmp_path: Path
) -> None:
    publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=0.05))
    client = publisher.registry.mlflow.client()
    (run,) = client.search_runs([publisher.registry.mlflow.experiment])
    tags, metrics = run.data.tags, run.data.metrics
    assert (tags["lake_version"], tags["environment/numpy"], tags["decision"]) == (
        "3",
        "2.0",
        "promoted",
    )
    assert (
        metrics["seconds/judging"],
        metrics["gate/latency_p95_ms"],
        metrics["gate/bundle_bytes"],
    ) == (1.0, 2.0, 1_000)


def broken(*_: object, **__: object) -> None:
    raise OSError("no space left")


def test_what_fails_after_the_decision_does_not_undo_it(
    publisher: ModelPublisher, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("prune", "note"):
        monkeypatch.setattr(publisher.registry, name, broken)
    assert publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=0.05)).promoted
    champion = publisher.registry.alias(CHAMPION)
    assert champion is not None and champion.version == "a"
    assert [event for event, *_ in broker.heard] == ["registered", "promoted"]


def test_a_bundle_that_can_not_be_registered_is_not_kept(
    publisher: ModelPublisher, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = publisher.registry.mlflow.client()
    monkeypatch.setattr(client, "log_inputs", broken)
    with pytest.raises(OSError, match="no space left"):
        publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=0.05))
    assert publisher.artifacts.versions() == []
    (run,) = client.search_runs([publisher.registry.mlflow.experiment])
    assert run.info.status == "FAILED"
    monkeypatch.undo()
    monkeypatch.setattr(client, "set_registered_model_alias", broken)
    with pytest.raises(OSError, match="no space left"):
        publisher.publish("b", bundle(tmp_path, "b"), result_of(popularity=0.05))
    assert publisher.artifacts.versions() == ["b"]  # its version is registered by now
    assert broker.heard == []


@pytest.mark.parametrize("lost", ["_defender", "_promote", "_keep", "_tidy"])
def test_a_decision_stands_when_the_service_is_killed_before_it_is_in_force(
    publisher: ModelPublisher,
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    made = bundle(tmp_path, "a")
    with monkeypatch.context() as killed:
        killed.setattr(ModelPublisher, "_discard", lambda *_: None)
        killed.setattr(ModelPublisher, lost, broken)
        with pytest.raises(OSError, match="no space left"):
            publisher.publish("a", made, result_of(popularity=0.05))
    decisions = [publisher.resume("a"), publisher.resume("a")]
    champion = publisher.registry.alias(CHAMPION)
    if lost == "_defender":  # which came before the decision
        assert decisions == [None, None] and champion is None
        assert publisher.artifacts.versions() == ["a"]
        assert broker.heard == []
    else:
        assert all(
            decision is not None and decision.promoted and decision.numbers
            for decision in decisions
        )
        assert champion is not None and champion.version == "a"
        assert broker.heard == [("registered", "a", None), ("promoted", "a", None)]


@pytest.mark.parametrize(
    ("part", "call"),
    [
        ("registry", "register"),
        ("client", "set_registered_model_alias"),
        ("registry", "alias"),
        ("repository", "record"),
        ("registry", "promote"),
        ("events", "add"),
    ],
)
def test_a_publication_goes_on_where_a_server_was_away(
    publisher: ModelPublisher,
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    call: str,
) -> None:
    made, result = bundle(tmp_path, "a"), result_of(popularity=0.05)

    def away(*_: object, **__: object) -> None:
        raise RegistryUnavailableError("gone for a moment")

    client = publisher.registry.mlflow.client()
    with monkeypatch.context() as gone:
        gone.setattr(client if part == "client" else getattr(publisher, part), call, away)
        with pytest.raises(RegistryUnavailableError):
            publisher.publish("a", made, result)
    assert publisher.artifacts.versions() == ["a"]
    assert publisher.publish("a", made, result).promoted
    champion = publisher.registry.alias(CHAMPION)
    assert champion is not None and champion.version == "a"
    assert [audit.outcome for audit in publisher.repository.decisions("a")] == ["promoted"]
    assert broker.heard == [("registered", "a", None), ("promoted", "a", None)]
    assert [model.version for model in publisher.registry.versions(9)[0]] == ["a"]


def test_a_bundle_of_a_run_that_was_killed_before_it_was_registered_is_removed(
    publisher: ModelPublisher, tmp_path: Path
) -> None:
    publisher.artifacts.put("a", bundle(tmp_path, "a"))
    assert publisher.resume("a") is None
    assert publisher.resume("never-came-so-far") is None
    assert publisher.artifacts.versions() == []


def test_a_report_is_kept_beside_the_bundle_and_in_mlflow_until_the_model_is_deleted(
    publisher: ModelPublisher, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=-0.05))
    page = publisher.artifacts.report("a").read_text()
    assert "Training run a" in page and "Worse than popularity" in page
    client = MlflowClient(publisher.registry.mlflow.uri, publisher.registry.mlflow.uri)
    run_id = client.search_model_versions("name = 'recommender'")[0].run_id
    assert "a.html" in [file.path for file in client.list_artifacts(run_id)]
    publisher.artifacts.delete("a")
    with pytest.raises(ArtifactNotFoundError, match="no report"):
        publisher.artifacts.report("a")


def test_a_report_that_fails_changes_no_decision(
    publisher: ModelPublisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.training.publish.report", lambda *_: 1 / 0)
    assert publisher.publish("a", bundle(tmp_path, "a"), result_of(popularity=0.05)).promoted
    with pytest.raises(ArtifactNotFoundError):
        publisher.artifacts.report("a")
