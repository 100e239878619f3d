"""A shop with parts that a test takes away from serving and brings back."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.topics import CATALOG, INTERACTIONS, RECOMMENDATIONS
from slipstream_cli.local.processes import Child, free_port
from tests.conftest import OwnBroker, OwnRedis
from tests.integration.launched_services import Launch
from tests.unit.serving.fakes import item_record, small_bundle
from tests.unit.serving.state.training_stub import TrainingStub
from tests.waiting import running

GONE = "item-07"
# Answers of one way in, during an outage.
ASKED = 40


class Peer:
    """A training service that can go away: its stub behind a port of its own."""

    def __init__(self, stub: TrainingStub) -> None:
        self.stub, self.port = stub, free_port()
        self._running: ExitStack | None = None

    def start(self) -> None:
        config = uvicorn.Config(
            self.stub.app(), port=self.port, log_config=None, timeout_graceful_shutdown=1
        )
        self._running = ExitStack()
        self._running.enter_context(running(uvicorn.Server(config)))

    def kill(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None


@dataclass
class Shop:
    """Serving with all that it needs; `outages` takes parts away by name and brings them back."""

    namespace: str
    kafka: KafkaSettings
    broker: Child
    redis: Child
    training: Peer
    features: Child
    serving: Child
    client: httpx.Client
    clicks: int = 0

    def outages(self) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
        return {
            "Redis hangs": (
                lambda: _signal(self.redis, signal.SIGSTOP),
                lambda: _signal(self.redis, signal.SIGCONT),
            ),
            "Redis stopped": (self.redis.kill, lambda: _start(self.redis)),
            "model store gone": (self.training.kill, self.training.start),
            "features down": (self.features.kill, lambda: relaunch(self.features)),
            "Kafka hangs": (
                lambda: _signal(self.broker, signal.SIGSTOP),
                lambda: _signal(self.broker, signal.SIGCONT),
            ),
            "Kafka down": (self.broker.kill, self._start_broker),
            "all four": (self.take_all, self.bring_all),
        }

    def ask(self) -> list[tuple[float, dict[str, Any]]]:
        """Each way in, several times: seconds and answers."""
        session = {"events": [{"item_id": "item-03"}, {"item_id": "item-04"}], "n": 5}
        ways: list[tuple[str, str, dict[str, Any]]] = [
            ("GET", "/v1/recommendations/ada?n=5", {}),
            ("GET", "/v1/similar/item-03?n=5", {}),
            ("GET", "/v1/trending?n=5", {}),
            ("POST", "/v1/sessions:recommend", {"json": session}),
            ("POST", "/v1/rank", {"json": {"user_id": "ada", "items": ["item-33", "item-03"]}}),
        ]
        answers = []
        for _ in range(ASKED):
            for method, path, body in ways:
                began = time.perf_counter()
                response = self.client.request(method, path, **body)
                took_s = time.perf_counter() - began
                assert response.status_code == 200, response.text
                answers.append((took_s, response.json()))
        return answers

    def recommended(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get("/v1/recommendations/ada?n=5").json()
        return answer

    def click(self) -> None:
        """A view by ada, as ingestion would publish it; it waits for the broker."""
        self.clicks += 1
        now = int(time.time() * 1000)
        view = Interaction(
            event_id=f"{self.namespace}-{self.clicks}",
            event_type="view",
            user_id="ada",
            item_id=f"item-{2 + self.clicks:02}",
            timestamp=now,
            received_at=now,
        )
        self.publish(OutgoingRecord(INTERACTIONS, "ada", view))

    def publish(self, *records: OutgoingRecord) -> None:
        producer = Producer(self.kafka, self.namespace)
        asyncio.run(producer.publish(records))
        producer.close()

    def up_to_date(self) -> bool:
        """Ada's last click counts, the champion answers, and nothing is down."""
        answer = self.recommended()
        current = (answer["history_length"], answer["answered_by"], answer["model_version"])
        ready = self.client.get("/health/ready").json()
        return (
            current == (self.clicks, "model", self.training.stub.champion)
            and ready["status"] == "ready"
        )

    def _start_broker(self) -> None:
        _start(self.broker)
        ensure_topics(self.kafka, self.namespace)

    def take_all(self) -> None:
        for part in (self.redis, self.training, self.features, self.broker):
            part.kill()

    def bring_all(self) -> None:
        _start(self.redis)
        self.training.start()
        relaunch(self.features)
        self._start_broker()


def _signal(child: Child, sent: signal.Signals) -> None:
    assert child.process is not None
    os.killpg(child.process.pid, sent)


def _start(child: Child) -> None:
    child.start(60)


def relaunch(child: Child) -> None:
    child.output = subprocess.DEVNULL  # its log is closed
    child.launch()


def until(holds: Callable[[], Any], patience_s: float = 120.0) -> float:
    """Wait until it holds; returns the seconds that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + patience_s, "it did not come to pass in time"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture
def shop(
    launch: Launch, own_redis: OwnRedis, own_broker: OwnBroker, namespace: str, tmp_path: Path
) -> Iterator[Shop]:
    redis_settings, redis = own_redis()
    kafka, broker = own_broker()
    ensure_topics(kafka, namespace)
    stub = TrainingStub(tmp_path / "training")
    stub.publish(small_bundle("1"), "1")
    training = Peer(stub)
    training.start()
    settings = {
        "namespace": namespace,
        "kafka__bootstrap_servers": kafka.bootstrap_servers,
        "kafka__session_timeout_ms": str(kafka.session_timeout_ms),
        "redis__url": redis_settings.url.get_secret_value(),
        "peers__training_url": f"http://127.0.0.1:{training.port}",
        "serving__cache_dir": str(tmp_path / "cache"),
        "serving__champion_poll_s": "1",
        # A busy machine may hold Redis up for longer than the default of 100 ms.
        "serving__redis_timeout_s": "1",
    }
    features, serving = launch("features", **settings), launch("serving", **settings)
    with httpx.Client(base_url=f"http://{serving.address}", timeout=30) as client:
        shop = Shop(namespace, kafka, broker, redis, training, features, serving, client)
        shop.publish(
            OutgoingRecord(CATALOG, f"item:{GONE}", item_record(GONE, deleted=True).record)
        )
        shop.click()
        shop.click()
        until(lambda: listens(client) and shop.up_to_date())
        until(lambda: GONE not in {item["item_id"] for item in many(shop)})
        yield shop
    training.kill()


def listens(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def many(shop: Shop) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = shop.client.get("/v1/recommendations/ada?n=30").json()["items"]
    return items


def slate_arrives(shop: Shop) -> None:
    """Slates reach the topic again."""
    consumer = Consumer(shop.kafka, shop.namespace, [RECOMMENDATIONS], None)
    wanted: set[str] = set()

    def arrives() -> bool:
        wanted.add(shop.recommended()["recommendation_id"])
        found = {message.record.recommendation_id for message in consumer.poll(0.5).messages}
        return bool(found & wanted)

    until(arrives)
    consumer.close()
