"""Placements from monitoring's table to serving's memory, on a real broker."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.monitoring.app import create_app as create_monitoring
from services.monitoring.settings import MonitoringSection, MonitoringSettings
from services.serving.app import create_app as create_serving
from services.serving.settings import ServingSection, ServingSettings
from services.serving.state.topic_states import ExperimentBook, StateBook
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import (
    DatabaseSettings,
    KafkaSettings,
    LakeSettings,
    PeerSettings,
    RedisSettings,
)
from slipstream.contracts.placements import Placement
from tests.conftest import OwnBroker, Renewal
from tests.waiting import until

NOWHERE = "http://127.0.0.1:1"
HIDDEN = {"rules": [{"name": "gone", "action": "exclude", "filter": 'item_id == "a"'}]}


class Serving:
    """A running serving."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    @property
    def book(self) -> StateBook[Placement]:
        book: StateBook[Placement] = self.client.app.state.placements  # type: ignore[attr-defined]
        return book

    @property
    def experiments(self) -> ExperimentBook:
        book: ExperimentBook = self.client.app.state.experiments  # type: ignore[attr-defined]
        return book

    @property
    def check(self) -> str:
        """The verdict on its placements."""
        verdict: str = self.client.get("/health/ready").json()["checks"]["placements"]
        return verdict

    def becomes_ready(self) -> None:
        """Wait until its placements and experiments hold it up no longer."""

        def has() -> bool:
            checks = self.client.get("/health/ready").json()["checks"]
            return [checks[name] for name in ("placements", "experiments")] == ["ok"] * 2

        until(has, "the placements and experiments to be known")

    def comes_to(self, name: str, revision: int | None) -> None:
        """Wait until it has this revision of a placement, None for none at all."""

        def has() -> bool:
            found = self.book.get(name)
            return (found.revision if found is not None else None) == revision

        until(has, f"revision {revision} of {name}")


class Stack:
    """Monitoring and serving on one broker, started one by one."""

    def __init__(
        self, kafka: KafkaSettings, database: DatabaseSettings, namespace: str, cache: Path
    ) -> None:
        self.common: dict[str, Any] = {"kafka": kafka, "namespace": namespace}
        self.database, self.cache = database, cache
        self.lake = LakeSettings(uri=str(cache / "lake"))

    @contextmanager
    def monitoring(self, **changes: Any) -> Iterator[TestClient]:
        section = MonitoringSection(**{"check_interval_s": 60} | changes)
        stores: dict[str, Any] = {"database": self.database, "lake": self.lake}
        settings = MonitoringSettings(**self.common, **stores, monitoring=section)
        with TestClient(create_monitoring(settings)) as client:
            yield client

    @contextmanager
    def serving(
        self, folder: str = "serving", place: int = 0, training_url: str = NOWHERE
    ) -> Iterator[Serving]:
        settings = ServingSettings(
            **self.common,
            redis=RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"), timeout_s=0.1),
            peers=PeerSettings(training_url=training_url),
            serving=ServingSection(cache_dir=self.cache / folder),
        )
        app = create_serving(settings)
        app.state.place = place
        with TestClient(app) as client:
            yield Serving(client)


@pytest.fixture
def stack(
    broker: KafkaSettings, database_settings: DatabaseSettings, namespace: str, tmp_path: Path
) -> Stack:
    return Stack(broker, database_settings, namespace, tmp_path)


def put(monitoring: TestClient, name: str, policy: Any = HIDDEN) -> int:
    answered = monitoring.put(f"/v1/placements/{name}", json=policy)
    assert answered.status_code in (200, 201), answered.text
    revision: int = answered.json()["revision"]
    return revision


def test_every_process_of_serving_follows_each_change(stack: Stack) -> None:
    with stack.monitoring() as monitoring, ExitStack() as running:
        put(monitoring, "before")
        processes = [running.enter_context(stack.serving(place=place)) for place in (0, 1)]
        put(monitoring, "home")
        for process in processes:
            process.comes_to("before", 1)
            process.comes_to("home", 1)
            process.becomes_ready()
        found = processes[1].book.get("home")
        assert found is not None and found.policy.rules[0].name == "gone"
        asked = processes[0].client.get("/v1/trending?placement=hoem")
        (error,) = asked.json()["errors"]
        assert error["reason"] == "there is no placement hoem yet; did you mean home?"
        assert processes[0].client.get("/v1/trending?placement=home").status_code == 200
        assert put(monitoring, "home", {}) == 2
        assert monitoring.delete("/v1/placements/before?force=true").json()["revision"] == 2
        for process in processes:
            process.comes_to("home", 2)
            process.comes_to("before", None)
        kept = sorted(path.name for path in (stack.cache / "serving").glob("placements-*"))
        namespace = stack.common["namespace"]
        assert kept == [f"placements-{namespace}-1.jsonl", f"placements-{namespace}.jsonl"]


def test_placements_are_published_again_when_the_topic_was_made_anew(
    renewal: Renewal, database_settings: DatabaseSettings, namespace: str, tmp_path: Path
) -> None:
    kafka, renew = renewal
    stack = Stack(kafka, database_settings, namespace, tmp_path)
    with ExitStack() as running:
        monitoring = running.enter_context(stack.monitoring())
        put(monitoring, "home")
        put(monitoring, "cart")
        old = running.enter_context(stack.serving())
        old.comes_to("cart", 1)
        renew()
        fresh = running.enter_context(stack.serving("fresh"))
        fresh.comes_to("home", 1)
        fresh.comes_to("cart", 1)
        assert put(monitoring, "home", {}) == 2
        for process in (old, fresh):
            process.comes_to("home", 2)
            process.comes_to("cart", 1)


@pytest.mark.servers("real")  # it takes ten seconds
def test_without_a_broker_serving_knows_the_last_placements_or_is_not_ready(
    own_broker: OwnBroker, database_settings: DatabaseSettings, namespace: str, tmp_path: Path
) -> None:
    kafka, server = own_broker()
    ensure_topics(kafka, namespace)
    stack = Stack(kafka, database_settings, namespace, tmp_path)
    with stack.monitoring() as monitoring:
        put(monitoring, "home")
        with stack.serving() as serving:
            serving.comes_to("home", 1)
            kept = tmp_path / "serving" / f"placements-{namespace}.jsonl"
            until(lambda: kept.exists() and '"home"' in kept.read_text(), "home in the file")
        server.kill()
        with stack.serving() as started, stack.serving("new") as new:
            started.becomes_ready()
            started.comes_to("home", 1)
            until(lambda: "this disk has no placements" in new.check, "the verdict")
            server.start()
            new.comes_to("home", 1)
            new.becomes_ready()
