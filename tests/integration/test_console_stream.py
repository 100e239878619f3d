"""The console's back end on a real broker: sessions, flow and streams."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from kafka import KafkaProducer

from services.monitoring.app import create_app
from services.monitoring.settings import MonitoringSettings
from slipstream.broker.producer import Producer
from slipstream.broker.tail import Tail
from slipstream.broker.topics import ensure_topics, physical
from slipstream.chassis.server import DrainingServer, server_config
from slipstream.chassis.settings import HttpSettings, KafkaSettings
from slipstream.contracts.events import DeadLetter, Interaction, Record
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS, Topic
from slipstream_cli.local.processes import free_port
from tests.integration.test_monitoring import (
    Peers,
    eventually,
    now_ms,
    peers,
    publish_records,
    settings,
    slate,
)

__all__ = ["peers", "settings"]

Publish = Callable[[Sequence[tuple[Topic, str, Record]]], None]


@pytest.fixture
def publish(broker: KafkaSettings, namespace: str) -> Iterator[Publish]:
    """Publishes records. The lake, which takes longer, is not filled."""
    ensure_topics(broker, namespace)
    producer = Producer(broker, namespace)
    yield partial(publish_records, producer)
    producer.close()


TOKEN = "of-thirty-two-bytes-or-even-more!"


class Instance:
    """A running instance of monitoring."""

    def __init__(self, settings: MonitoringSettings) -> None:
        port = free_port()
        http = HttpSettings(port=port, api_token=TOKEN, shutdown_grace_s=5)  # type: ignore[arg-type]
        own = settings.model_copy(update={"http": http})
        app = create_app(own)
        self.server = DrainingServer(server_config(app, own, "monitoring"), 0.0, app.state.on_stop)
        self.url = f"http://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()

    def get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=60)

    def status_of(self, path: str) -> int:
        try:
            return self.get(path).status_code
        except httpx.TransportError:
            return 0

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(60)


@contextmanager
def running(settings: MonitoringSettings) -> Iterator[Instance]:
    instance = Instance(settings)
    try:
        eventually(lambda: instance.status_of("/health/live"), lambda status: status == 200)
        yield instance
    finally:
        instance.stop()


class Watching:
    """The events of a stream, which a thread reads."""

    def __init__(self, url: str, query: str, **client: Any) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ended_at = 0.0
        self.opened = threading.Event()
        self._url, self._client = f"{url}/v1/stream?{query}", client
        threading.Thread(target=self._read, daemon=True).start()
        assert self.opened.wait(60)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [body for event, body in self.events if event == name]

    def _read(self) -> None:
        name = ""
        with (
            httpx.Client(timeout=60, **self._client) as client,
            client.stream("GET", self._url) as answer,
        ):
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                self.opened.set()
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.events.append((name, json.loads(line.removeprefix("data: "))))
        self.ended_at = time.monotonic()


def click(number: int) -> tuple[Topic, str, Record]:
    at = now_ms()
    record = Interaction(
        event_id=f"e{number}", event_type="click", user_id="ada", item_id=f"item-{number}",
        timestamp=at, received_at=at,
    )  # fmt: skip
    return INTERACTIONS, "ada", record


def letter() -> tuple[Topic, str, Record]:
    original = {"userId": "ada"}
    record = DeadLetter(
        source="track", code="missing_field", reason="-", original=original, received_at=now_ms()
    )
    return DEAD_LETTERS, "track", record


def until_told(publish: Publish, watching: Watching) -> dict[str, Any]:
    """The first record that a stream shows; what is sent before its consumer reads is not shown."""
    number = 0

    def send() -> list[dict[str, Any]]:
        nonlocal number
        number += 1
        publish([click(number)])
        return watching.of("record")

    first: dict[str, Any] = eventually(send, bool)[0]
    return first


@pytest.fixture
def ready(settings: MonitoringSettings, peers: Peers) -> MonitoringSettings:
    ensure_topics(settings.kafka, settings.namespace)
    return settings


def test_who_signed_in_sees_records_and_figures_as_they_pass(
    ready: MonitoringSettings, publish: Publish
) -> None:
    with running(ready) as instance:
        eventually(lambda: instance.status_of("/v1/flow"), lambda status: status == 200)
        own = {"Origin": instance.url}
        browser = httpx.Client(base_url=instance.url, headers=own)
        signed_in = browser.post("/v1/session", json={"credential": TOKEN})
        assert signed_in.json()["signed_in"], signed_in.text
        session = {"cookies": browser.cookies, "headers": {"Sec-Fetch-Site": "same-origin"}}

        live = Watching(instance.url, "records=1", **session)
        letters = Watching(instance.url, "figures=0&records=1&topic=dead-letters.v1", **session)
        record = until_told(publish, live)
        assert (record["topic"], record["kind"], record["visitor"]) == (
            "interactions.v1", "click", "ada",
        )  # fmt: skip
        assert record["value"]["item_id"] == record["item"] and record["offset"] >= 0
        publish([letter(), slate(1)])
        kinds = eventually(
            lambda: {each["kind"] for each in live.of("record")},
            lambda found: {"dead_letter", "slate"} <= found,
        )
        assert "click" in kinds
        (only,) = eventually(lambda: letters.of("record"), bool)
        assert (only["kind"], only["code"], only["visitor"]) == (
            "dead_letter",
            "missing_field",
            "ada",
        )
        figures = eventually(
            lambda: [each for each in live.of("figures") if each["events_per_s"]], bool
        )
        edges = {(each["source"], each["target"]): each for each in figures[-1]["edges"]}
        assert edges[("ingestion", "interactions.v1")]["rate"] > 0
        assert letters.of("figures") == []

        # Its own group reads interactions, and has committed some of them by now.
        flow = eventually(
            lambda: {
                (each["source"], each["target"]): each
                for each in instance.get("/v1/flow").json()["edges"]
            }[("interactions.v1", "monitoring")],
            lambda edge: edge["lag"] == 0,
        )
        assert flow["delay_ms"] == 0 and flow["drops"] == 0

        left = browser.delete("/v1/session")
        assert left.status_code == 204
        eventually(lambda: live.ended_at and letters.ended_at, bool, 10)
        assert live.of("end") == []


def test_streams_end_when_their_instance_stops(ready: MonitoringSettings, publish: Publish) -> None:
    with running(ready) as instance:
        eventually(lambda: instance.status_of("/v1/flow"), lambda status: status == 200)
        own = {"Origin": instance.url}
        browser = httpx.Client(base_url=instance.url, headers=own)
        assert browser.post("/v1/session", json={"credential": TOKEN}).json()["signed_in"]
        foreign = browser.get("/v1/session", headers={"Origin": "http://127.0.0.1:1"})
        assert (foreign.status_code, foreign.json()["code"]) == (403, "foreign_origin")
        session = {"cookies": browser.cookies, "headers": own}
        records = Watching(instance.url, "records=1", **session)
        figures = Watching(instance.url, "figures=1", headers={"Authorization": f"Bearer {TOKEN}"})
        assert until_told(publish, records)["visitor"] == "ada"
        stopped = time.monotonic()
        instance.server.should_exit = True
        eventually(lambda: records.ended_at and figures.ended_at, bool, 10)
        print(f"over {figures.ended_at - stopped:.2f} s after the stop")
        assert [name for name, _ in figures.events][-1] == "end"


def test_a_tail_takes_a_share_of_a_flood_and_counts_all_of_it(
    broker: KafkaSettings, namespace: str, publish: Publish
) -> None:
    ensure_topics(broker, namespace)
    publish([click(number) for number in range(5)])
    tail = Tail(broker, namespace, [INTERACTIONS], 200)
    try:
        taken, passed, deadline = 0, 0, time.monotonic() + 60
        for turn in range(4):
            publish([click(turn * 1_000 + number) for number in range(1_000)])
        while passed < 4_000 and time.monotonic() < deadline:
            # One more tells the embedded broker's true end.
            publish([click(0)])
            records, more = tail.read(0.2)
            taken, passed = taken + len(records), passed + more
        assert passed >= 4_000
        assert 0 < taken < passed
    finally:
        tail.close()


def test_a_tail_leaves_out_what_was_there_before(broker: KafkaSettings, namespace: str) -> None:
    ensure_topics(broker, namespace)
    tail = Tail(broker, namespace, [INTERACTIONS], 200)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    try:
        now, topic = now_ms(), physical(namespace, INTERACTIONS)
        for value, at in ((b"old", now - 120_000), (b"new", now)):
            producer.send(topic, value, timestamp_ms=at, partition=0).get(10)
        shown, passed, deadline = list[bytes | None](), 0, time.monotonic() + 20
        while not shown and time.monotonic() < deadline:
            records, more = tail.read(0.2)
            shown, passed = shown + [each.value for each in records], passed + more
        assert (shown, passed) == ([b"new"], 1)
    finally:
        producer.close()
        tail.close()
