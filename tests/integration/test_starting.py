"""Services start while their servers are unavailable."""

import asyncio
import importlib
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.producer import Producer, open_producer
from slipstream.chassis.settings import (
    ArtifactSettings,
    DatabaseSettings,
    KafkaSettings,
    LakeSettings,
    RedisSettings,
)
from slipstream_cli.local import servers
from slipstream_cli.local.processes import free_port
from tests.integration.launched_services import PATIENCE_S, Launch, answer, lines
from tests.waiting import until

# By service, what it waits for where neither the broker nor the database nor Redis is there.
# Serving waits for nothing.
AWAY = {
    "ingestion": "kafka",
    "features": "kafka",
    "training": "database",
    "monitoring": "database",
}


@pytest.mark.servers("real")  # it takes ten seconds
def test_serving_answers_without_any_server_and_is_not_ready_before_it_knows_what_to_show(
    launch: Launch, tmp_path: Path
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    child = launch(
        "serving",
        kafka__bootstrap_servers=nowhere,
        peers__training_url=f"http://{nowhere}",
        serving__cache_dir=str(tmp_path / "cache"),
    )
    answered = answer(child, "/v1/recommendations/ada")
    assert (answered.status_code, answered.json()["answered_by"]) == (200, "none")
    assert "no model is loaded yet" in answered.json()["reason"]
    ready = answer(child, "/health/ready")
    assert ready.status_code == 503
    assert {"catalog", "model", "kafka", "redis"} <= set(ready.json()["down"])
    assert child.stop()
    assert "Traceback" not in (tmp_path / "serving.log").read_text()


@pytest.mark.servers("real")  # it takes ten seconds
def test_every_service_waits_alive_and_not_ready_and_says_for_what(
    launch: Launch, tmp_path: Path
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    settings = {
        "kafka__bootstrap_servers": nowhere,
        "database__url": f"postgresql+psycopg://shop:s3cret@{nowhere}/shop",
    }
    children = {name: launch(name, **settings) for name in AWAY}
    for name, child in children.items():
        live, ready = answer(child, "/health/live"), answer(child, "/health/ready")
        assert (live.status_code, ready.status_code) == (200, 503), name
        assert ready.json()["down"] == [AWAY[name]], name
        assert nowhere.rpartition(":")[2] in ready.json()["checks"][AWAY[name]], name
    refused = answer(
        children["ingestion"], "/v1/track", method="POST", json={"event": "x"}, auth=("s3cret", "")
    )
    assert (refused.status_code, refused.json()["code"]) == (503, "starting")
    for child in children.values():
        assert child.alive
        child.terminate()
    for name, child in children.items():
        assert child.finish(), f"{name} did not stop while it waited"
        assert child.status == -signal.SIGTERM
        text = (tmp_path / f"{name}.log").read_text()
        assert "Traceback" not in text and "s3cret" not in text, text
        said = [
            line
            for line in lines(tmp_path, name)
            if line["level"] not in ("debug", "info") and line["event"] != "request"
        ]
        assert len(said) <= 4, text  # ours, and each complaint of the client's once
        (waiting,) = [line for line in said if line["event"] == "waiting to start"]
        assert waiting["waits_for"] == AWAY[name]
        assert "\n" not in waiting["reason"]


@pytest.mark.servers("real")  # it takes ten seconds
def test_a_service_opens_by_itself_when_what_it_waits_for_is_there(
    launch: Launch, tmp_path: Path
) -> None:
    port = free_port()
    child = launch(
        "monitoring",
        kafka__bootstrap_servers=f"127.0.0.1:{port}",
        database__url=f"sqlite:///{tmp_path / 'metadata.db'}",
        monitoring__check_interval_s="60",
    )
    assert answer(child, "/health/ready").json()["down"] == ["kafka"]
    assert answer(child, "/v1/alerts").json()["code"] == "starting"
    broker = servers.broker(port)
    try:
        broker.start()
        deadline = time.monotonic() + PATIENCE_S
        while (ready := answer(child, "/health/ready")).status_code != 200:
            assert time.monotonic() < deadline, ready.text
            time.sleep(0.05)
        assert answer(child, "/v1/alerts").json()["items"] == []
        assert child.stop()
    finally:
        broker.kill()
    assert "Traceback" not in (tmp_path / "monitoring.log").read_text()


@pytest.mark.parametrize("name", AWAY)
def test_an_attempt_that_failed_is_in_nobodys_way(
    name: str,
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    database_settings: DatabaseSettings,
    lake_settings: LakeSettings,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first attempt comes as far as the broker, the second has one: metrics, checks and threads
    are there once.
    """
    tries, go_on = 0, threading.Event()

    async def away_at_first(*arguments: Any, **named: Any) -> Producer:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise BrokerUnavailableError("away at first")
        await asyncio.to_thread(go_on.wait)
        return await open_producer(*arguments, **named)

    module = importlib.import_module(f"services.{name}.app")
    monkeypatch.setattr(module, "open_producer", away_at_first)
    settings = getattr(
        importlib.import_module(f"services.{name}.settings"), f"{name.capitalize()}Settings"
    )(
        namespace=namespace,
        kafka=broker,
        redis=redis_settings,
        database=database_settings,
        lake=lake_settings,
        artifacts=ArtifactSettings(directory=tmp_path / "models"),
        **{"ingestion": {"ingestion": {"write_keys": "shop:s3cret"}}}.get(name, {}),
    )
    before = {thread.name for thread in threading.enumerate()}
    with TestClient(module.create_app(settings)) as client:

        def checks() -> dict[str, str]:
            current: dict[str, str] = client.get("/health/ready").json()["checks"]
            return current

        until(lambda: checks() == {"kafka": "BrokerUnavailableError: away at first"}, checks)
        go_on.set()
        until(lambda: checks().get("kafka") == "ok", checks)
        names = checks().keys()
        assert client.get("/metrics").status_code == 200
        running = [thread.name for thread in threading.enumerate() if thread.name in names]
        assert len(running) == len(set(running))
    assert tries == 2

    def left() -> set[str]:
        running = {thread.name for thread in threading.enumerate()}
        return running & {*names, "registry", "champion"} - before

    # A thread that is loading MLflow ends when it has loaded it.
    until(lambda: not left(), left)


REFUSED = """
import sys, threading
from contextlib import asynccontextmanager
from slipstream.chassis.app import create_service
from slipstream.chassis.server import serve
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.logging import configure_logging
from slipstream.chassis.settings import HttpSettings, LogSettings, ServiceSettings

def refuse(_stop=None):
    raise RefusedSettingsError("Kafka refuses a session timeout of 2000 ms: its minimum is 6000")

@asynccontextmanager
async def lifespan(app):
    if sys.argv[1] == "start":
        refuse()
    app.state.workers.start("reader", refuse)
    yield
    await app.state.workers.stop()

settings = ServiceSettings(http=HttpSettings(port=int(sys.argv[2])))
configure_logging(LogSettings(), "probe")
app = create_service("probe", settings, description="", lifespan=lifespan, routers=[])
serve(app, settings, "monitoring")
"""


@pytest.mark.parametrize("where", ["start", "worker"])
def test_refused_settings_end_the_process_with_one_sentence(where: str) -> None:
    command = [sys.executable, "-c", REFUSED, where, str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert ended.stdout.count("its minimum is 6000") == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    (critical,) = [
        entry
        for entry in map(json.loads, ended.stdout.splitlines())
        if entry["level"] not in ("debug", "info")
    ]
    assert critical["reason"] == "Kafka refuses a session timeout of 2000 ms: its minimum is 6000"
