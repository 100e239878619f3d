"""The training service over HTTP, on a real broker, SQLite, MLflow and a lake: from a request to a bundle that loads."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from services.training.app import create_app
from services.training.settings import TrainingSection, TrainingSettings
from slipstream.broker.consumer import Consumer
from slipstream.broker.kafka import ensure_topics
from slipstream.broker.producer import Producer
from slipstream.chassis.settings import ArtifactSettings, DatabaseSettings, HttpSettings, KafkaSettings, LakeSettings
from slipstream.contracts.events import AlertEvent, Severity
from slipstream.contracts.topics import ALERTS, MODEL_EVENTS
from slipstream.recommender.bundle import load_bundle
from slipstream.recommender.stages import Event, recommend
from slipstream.stores.lake import Lake
from tests.unit.training.histories import DAY_MS, START_MS, chain, write
from tests.unit.training.registries import mlflow_template

__all__ = ["mlflow_template"]

Settings = Callable[..., TrainingSettings]


@pytest.fixture
def make_settings(
    broker: KafkaSettings,
    namespace: str,
    database_settings: DatabaseSettings,
    lake_settings: LakeSettings,
    mlflow_template: Path,
    tmp_path: Path,
) -> Settings:
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")  # where the service keeps it: beside the metadata

    def make(**training: Any) -> TrainingSettings:
        return TrainingSettings(
            namespace=namespace, kafka=broker, database=database_settings, lake=lake_settings,
            artifacts=ArtifactSettings(directory=tmp_path / "models"), http=HttpSettings(), training=TrainingSection(**training),
        )  # fmt: skip

    return make


@contextmanager
def running(settings: TrainingSettings) -> Iterator[httpx.Client]:
    """The service on a free port, until the block ends and it has stopped cleanly."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive(), "the service did not start")
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            until(lambda: client.get("/health/ready").status_code == 200, "the service did not become ready")
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the service did not stop"


def until(holds: Callable[[], bool], complaint: str, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)


def ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(client.get(f"/v1/runs/{run_id}").json())
        return found["state"] not in ("queued", "running")

    until(over, f"the run did not end: {found}")
    return found


def model_events(settings: TrainingSettings, count: int) -> list[tuple[str, str, str]]:
    consumer = Consumer(settings.kafka, settings.namespace, [MODEL_EVENTS], group=None)
    heard: list[tuple[str, str, str]] = []
    try:
        deadline = time.monotonic() + 20
        while len(heard) < count and time.monotonic() < deadline:
            heard += [(it.record.event.value, it.record.version, it.request_id) for it in consumer.poll(0.2).messages]
    finally:
        consumer.close()
    return heard


def test_request_trains_promotes_announces_and_offers_the_bundle(make_settings: Settings, tmp_path: Path) -> None:
    settings = make_settings()
    lake = Lake(settings.lake, settings.namespace)
    write(lake, chain())
    with running(settings) as client:
        missing = client.get("/v1/aliases/champion")
        assert (missing.status_code, missing.json()["code"]) == (404, "no_model")
        assert client.post("/v1/models:rollback").json()["code"] == "no_previous_champion"

        asked = client.post("/v1/runs", json={"reason": "first"}, headers={"X-Request-Id": "r-first"})
        assert (asked.status_code, asked.json()["state"]) == (202, "queued")
        run = ended(client, asked.json()["run_id"])
        assert (run["state"], run["decision"], run["error"]) == ("succeeded", "promoted", None), run

        version = run["model_version"]
        champion = client.get("/v1/aliases/champion").json()
        assert (champion["version"], champion["aliases"], champion["run_id"]) == (version, ["champion"], run["run_id"])
        assert model_events(settings, 2) == [("registered", version, "r-first"), ("promoted", version, "r-first")]
        (audit,) = client.get(f"/v1/runs/{run['run_id']}/decisions").json()
        assert audit["outcome"] == "promoted"

        fetched = tmp_path / "fetched"
        fetched.mkdir()
        for name in champion["files"]:
            (fetched / name).write_bytes(client.get(f"/v1/models/{version}/files/{name}").raise_for_status().content)
        history = [Event("i3", "view", START_MS), Event("i4", "view", START_MS + 1_000)]
        assert recommend(load_bundle(fetched), history, 1)[0].item_id == "i5"
        for name in ("..%2fmanifest.json", "%2e%2e%2f%2e%2e%2fmetadata.db", "absent.npy"):
            assert client.get(f"/v1/models/{version}/files/{name}").status_code == 404
        assert client.get("/v1/models/..%2f..%2fmodels/files/manifest.json").status_code == 404

        write(lake, chain(seed=1, start_ms=START_MS + 20 * DAY_MS))
        second = ended(client, client.post("/v1/runs").json()["run_id"])
        assert second["state"] == "succeeded", second
        assert second["lake_version"] > run["lake_version"]
        promoted = client.post(f"/v1/models/{second['model_version']}:promote", json={"reason": "trial"}).json()
        assert promoted["aliases"] == ["champion"]
        assert client.post("/v1/models:rollback").json()["version"] == version
        listed = client.get("/v1/models", params={"limit": 1}).json()
        assert listed["items"][0]["version"] == second["model_version"]
        assert client.get("/v1/models", params={"cursor": listed["next_cursor"]}).json()["items"][0]["version"] == version
        assert "slipstream_training_runs_total" in client.get("/metrics").text

    with running(settings) as client:  # and what it knew is still there
        assert client.get("/v1/aliases/champion").json()["version"] == version


def test_run_that_fails_leaves_the_champion_and_says_why(make_settings: Settings) -> None:
    settings = make_settings()
    with running(settings) as client:
        run = ended(client, client.post("/v1/runs").json()["run_id"])
        assert run["state"] == "failed"
        assert "the lake holds no interactions yet" in run["error"]
        write(Lake(settings.lake, settings.namespace), chain())
        good = ended(client, client.post("/v1/runs").json()["run_id"])
        assert good["state"] == "succeeded", good
    with running(make_settings(min_events=10_000)) as client:
        bad = ended(client, client.post("/v1/runs").json()["run_id"])
        assert bad["state"] == "failed"
        assert "too little data" in bad["error"]
        assert client.get("/v1/aliases/champion").json()["version"] == good["model_version"]


def test_stop_and_cancel_end_the_process_of_a_run(make_settings: Settings) -> None:
    settings = make_settings()
    write(Lake(settings.lake, settings.namespace), chain(visitors=600))
    with running(settings) as client:
        run_id = client.post("/v1/runs").json()["run_id"]
        until(lambda: client.get(f"/v1/runs/{run_id}").json()["stage"] != "", "the run did not begin")
        assert client.post(f"/v1/runs/{run_id}:cancel").status_code == 202
        assert ended(client, run_id)["state"] == "cancelled"
        assert client.post(f"/v1/runs/{run_id}:cancel").json()["code"] == "run_ended"
        interrupted = client.post("/v1/runs").json()["run_id"]
        until(lambda: client.get(f"/v1/runs/{interrupted}").json()["stage"] != "", "the run did not begin")
    with running(settings) as client:
        again, stopped, _cancelled = client.get("/v1/runs").json()["items"]
        assert (stopped["run_id"], stopped["state"]) == (interrupted, "failed")
        assert "service stopped" in stopped["error"]
        assert ended(client, again["run_id"])["state"] == "succeeded"


def test_alert_that_asks_for_retraining_starts_one_run(make_settings: Settings) -> None:
    settings = make_settings()
    write(Lake(settings.lake, settings.namespace), chain())
    ensure_topics(settings.kafka, settings.namespace)
    producer = Producer(settings.kafka, settings.namespace)
    with running(settings) as client:
        for action, rule in (("none", "lag"), ("retrain", "drift"), ("retrain", "drift")):
            alert = AlertEvent(
                alert_id=f"{rule}-1", rule=rule, severity=Severity.WARNING, state="opened", summary="views shifted",
                action=action, timestamp=START_MS,
            )  # fmt: skip
            producer.send(ALERTS, rule, alert)
        producer.flush()
        until(lambda: client.get("/v1/runs").json()["items"] != [], "the alert started no run")
        (run,) = client.get("/v1/runs").json()["items"]
        assert (run["trigger"], run["reason"]) == ("alert", "drift: views shifted")
        assert ended(client, run["run_id"])["state"] == "succeeded"
        assert len(client.get("/v1/runs").json()["items"]) == 1
    producer.close()
