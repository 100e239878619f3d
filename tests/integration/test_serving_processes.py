"""Serving as several processes on one port: they share what is fetched, and are counted as one."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from slipstream.broker.producer import OutgoingRecord
from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.events import ModelEvent, ModelEventType
from slipstream.contracts.experiments import Experiment, ExperimentDesign, Variant
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.topics import EXPERIMENTS, MODEL_EVENTS, PLACEMENTS
from slipstream_cli.local.processes import Child
from tests.integration.launched_services import Launch, answer
from tests.integration.test_serving import bundle, publish, remember, running, training
from tests.unit.serving.fakes import small_bundle
from tests.unit.serving.state.training_stub import TrainingStub
from tests.waiting import until

__all__ = ["bundle", "training"]

pytestmark = pytest.mark.servers("real")


@pytest.fixture
def serving(
    launch: Launch,
    training: TrainingStub,
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    namespace: str,
    tmp_path: Path,
) -> Iterator[Child]:
    with running(training.app()) as url:
        yield launch(
            "serving",
            namespace=namespace,
            kafka__bootstrap_servers=broker.bootstrap_servers,
            redis__url=redis_settings.url.get_secret_value(),
            peers__training_url=url,
            serving__workers="2",
            serving__cache_dir=str(tmp_path / "cache"),
            serving__champion_poll_s="600",
            serving__redis_timeout_s="10",
        )


def processes(child: Child) -> set[int]:
    assert child.process is not None
    pid = child.process.pid
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def asked(child: Child, times: int, placement: str = "") -> list[dict[str, object]]:
    """The answers to requests on connections of their own, which the system spreads."""
    path = f"/v1/recommendations/ada?placement={placement}"
    return [answer(child, path).json() for _ in range(times)]


def test_several_processes_answer_on_one_port_and_are_one_service(
    serving: Child,
    training: TrainingStub,
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    namespace: str,
) -> None:
    remember(redis_settings, namespace, "ada", "item-03", "item-04")
    until(lambda: {each["model_version"] for each in asked(serving, 20)} == {"1"})
    workers = processes(serving)
    assert len(workers) == 2

    def counted() -> float:
        # It is a 503 where one of the processes does not tell its counts in time.
        pages: list[httpx.Response] = []

        def complete() -> bool:
            pages.append(answer(serving, "/metrics"))
            return pages[-1].status_code == 200

        until(complete)
        lines = pages[-1].text.splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("slipstream_recommendations_total")
        )

    before = counted()
    asked(serving, 40)
    assert counted() == before + 40

    training.publish(small_bundle("2"), "2")
    promoted = ModelEvent(
        event=ModelEventType.PROMOTED, version="2", alias="champion", previous="1", timestamp=1
    )
    publish(broker, namespace, OutgoingRecord(MODEL_EVENTS, promoted.model, promoted))
    until(lambda: {each["model_version"] for each in asked(serving, 20)} == {"2"})

    # The first one leads: its successor does, too.
    for victim in sorted(workers):
        os.kill(victim, signal.SIGKILL)
        until(lambda gone=victim: len(processes(serving) - {gone}) == 2)
        until(lambda: {each["model_version"] for each in asked(serving, 20)} == {"2"})

    present = processes(serving)
    serving.terminate()
    assert serving.finish()
    assert serving.status == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in present)


def test_a_variants_model_is_fetched_once_for_all_and_found_without_training(
    serving: Child,
    training: TrainingStub,
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    namespace: str,
) -> None:
    def versions(placement: str) -> set[object]:
        return {each.get("model_version") for each in asked(serving, 20, placement)}

    remember(redis_settings, namespace, "ada", "item-03", "item-04")
    training.register(small_bundle("2"), "2")
    training.canary = "2"
    variants = [Variant(name=name, model="canary") for name in ("new", "newer")]
    design = ExperimentDesign(placements=["home"], variants=variants)
    trial = Experiment(name="trial", revision=1, design=design, changed_at=1)
    home = Placement(name="home", revision=1, policy=PlacementPolicy(), changed_at=1)
    publish(broker, namespace, OutgoingRecord(PLACEMENTS, home.name, home))
    publish(broker, namespace, OutgoingRecord(EXPERIMENTS, trial.name, trial))
    until(lambda: versions("home") == {"2"})
    until(lambda: versions("") == {"1"})
    assert training.downloads.count("item_ids.npy") == 2, "one of the champion, one of the canary"

    # Whoever comes has no training to ask.
    training.away = True
    for victim in sorted(processes(serving)):
        os.kill(victim, signal.SIGKILL)
        until(lambda gone=victim: len(processes(serving) - {gone}) == 2)
    until(lambda: versions("home") == {"2"})


def test_processes_end_with_the_one_that_started_them(serving: Child) -> None:
    assert answer(serving, "/health/live").status_code == 200
    workers = processes(serving)
    assert serving.process is not None
    os.kill(serving.process.pid, signal.SIGKILL)
    until(lambda: not any(_runs(pid) for pid in workers))
    until(lambda: _refuses(serving))


def _refuses(child: Child) -> bool:
    """Whether no process listens. A thread of an ended process may hold its socket a little."""
    try:
        httpx.get(f"http://{child.address}/health/live", timeout=30)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        return False
    return False


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
