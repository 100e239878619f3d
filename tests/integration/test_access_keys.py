"""Access keys from monitoring's table to the services that take them, on a real broker."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.ingestion.app import create_app as create_ingestion
from services.ingestion.settings import IngestionSection, IngestionSettings
from services.monitoring.app import create_app as create_monitoring
from services.monitoring.settings import MonitoringSection, MonitoringSettings
from slipstream.chassis.access.keys import digest_of
from slipstream.chassis.settings import DatabaseSettings, HttpSettings, KafkaSettings, RedisSettings
from tests.conftest import Renewal
from tests.integration.test_ingestion import track
from tests.waiting import until

OPERATOR = {"Authorization": "Bearer s3cret"}
# No server listens there: keys need no Redis.
NO_REDIS = RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"), timeout_s=0.1)


class Stack:
    """Monitoring and ingestion on one broker, started one by one."""

    def __init__(self, kafka: KafkaSettings, database: DatabaseSettings, namespace: str) -> None:
        self.common: dict[str, Any] = {
            "kafka": kafka,
            "namespace": namespace,
            "http": HttpSettings(api_token=SecretStr("s3cret")),
        }
        self.database = database

    @contextmanager
    def monitoring(self) -> Iterator[TestClient]:
        section = MonitoringSection(check_interval_s=60)
        settings = MonitoringSettings(**self.common, database=self.database, monitoring=section)
        with TestClient(create_monitoring(settings), headers=OPERATOR) as client:
            yield client

    @contextmanager
    def ingestion(self) -> Iterator[TestClient]:
        section = IngestionSection(write_keys=SecretStr("shop:configured"))
        settings = IngestionSettings(**self.common, redis=NO_REDIS, ingestion=section)
        with TestClient(create_ingestion(settings)) as client:
            yield client


# A key that does not count, alone and after others that did not.
REFUSED = 401, 429


@pytest.fixture
def stack(broker: KafkaSettings, database_settings: DatabaseSettings, namespace: str) -> Stack:
    return Stack(broker, database_settings, namespace)


def status(ingestion: TestClient, key: str) -> int:
    return ingestion.post("/v1/track", json=track("ada", "a", "m-0"), auth=(key, "")).status_code


def ids(*keys: dict[str, Any]) -> list[str]:
    return [key["id"] for key in keys]


def becomes(ingestion: TestClient, key: str, *wanted: int) -> None:
    until(lambda: status(ingestion, key) in wanted, f"{wanted} for a key")


def test_keys_are_made_rotated_and_revoked_while_services_run_without_a_redis(stack: Stack) -> None:
    with stack.monitoring() as monitoring, stack.ingestion() as ingestion:

        def asked(path: str, body: Any = None) -> Any:
            return monitoring.post(f"/v1/keys{path}", json=body)

        made = asked("", {"name": "app", "scopes": ["events", "read"]})
        first = made.json()["key"]
        assert made.status_code == 201 and len(first) == 32
        assert asked("", {"name": "app", "scopes": ["read"]}).json()["code"] == "key_exists"
        becomes(ingestion, first, 200)
        second = asked("/app:rotate", {"grace_ms": 3_600_000}).json()["key"]
        becomes(ingestion, second, 200)
        assert status(ingestion, first) == 200, "the old key counts for the grace period"
        third = asked("/app:rotate", {"grace_ms": 0}).json()["key"]
        becomes(ingestion, third, 200)
        becomes(ingestion, first, *REFUSED)
        becomes(ingestion, second, *REFUSED)
        held = {"Authorization": f"Bearer {third}"}
        # Monitoring follows a copy of the keys like every other service.
        until(lambda: monitoring.get("/v1/alerts", headers=held).status_code == 200, "the key")
        refused = monitoring.get("/v1/keys", headers=held)
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
        assert asked("/app:revoke").json() == {"revoked": 1}
        becomes(ingestion, third, *REFUSED)
        assert status(ingestion, "configured") == 200
        assert asked("/app:revoke").json()["code"] == "no_key"

        listed = monitoring.get("/v1/keys")
        assert len(listed.json()["items"]) == 3 and listed.json()["next_cursor"] is None
        page = monitoring.get("/v1/keys", params={"limit": 2}).json()
        rest = monitoring.get("/v1/keys", params={"cursor": page["next_cursor"]}).json()
        # The time of a key's last use may come meanwhile.
        assert ids(*page["items"], *rest["items"]) == ids(*listed.json()["items"])
        wrong = monitoring.get("/v1/keys", params={"cursor": "17-shop"})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_cursor")
        assert not any(key in listed.text for key in (first, second, third))
        audit = monitoring.get("/v1/audit", params={"limit": 2}).json()
        older = monitoring.get("/v1/audit", params={"cursor": audit["next_cursor"]}).json()
        told = [*audit["items"], *older["items"]]
        # Monitoring ships rules of alerts when it first starts.
        told = [record for record in told if record["principal"] != "monitoring"]
        assert [(record["principal"], record["action"], record["subject"]) for record in told] == [
            ("api-token", action, "app")
            for action in ("revoke_key", "rotate_key", "rotate_key", "create_key")
        ]
        assert older["next_cursor"] is None
        assert told[-1]["detail"] == {"scopes": ["events", "read"]} and told[-1]["request_id"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"scopes": []},
        {"scopes": ["fly"]},
        {"browser": True, "scopes": ["events", "erase"]},
        {"origins": ["https://shop.example"]},
        {"browser": True, "origins": ["https://shop.example/path"]},
    ],
)
def test_a_wrong_key_is_refused(stack: Stack, wrong: dict[str, Any]) -> None:
    body = {"name": "app", "scopes": ["events"]} | wrong
    client = TestClient(create_monitoring(MonitoringSettings(**stack.common)), headers=OPERATOR)
    assert client.post("/v1/keys", json=body).status_code == 422


def test_keys_are_published_again_when_the_topic_was_made_anew(
    renewal: Renewal, database_settings: DatabaseSettings, namespace: str
) -> None:
    kafka, renew = renewal
    # An event that is under way when the broker dies is answered then.
    kafka = kafka.model_copy(update={"delivery_timeout_ms": 2_000})
    stack = Stack(kafka, database_settings, namespace)
    with ExitStack() as running:
        monitoring = running.enter_context(stack.monitoring())
        key = monitoring.post("/v1/keys", json={"name": "app", "scopes": ["events"]}).json()["key"]
        old = running.enter_context(stack.ingestion())
        becomes(old, key, 200)
        renew()
        until(lambda: status(old, key) in (200, 503), "the last known keys stay valid")
        fresh = running.enter_context(stack.ingestion())
        becomes(fresh, key, 200)
        monitoring.post("/v1/keys/app:revoke")
        becomes(fresh, key, *REFUSED)
        becomes(old, key, *REFUSED)


@pytest.mark.servers("real")
def test_keys_outlive_a_restart_of_monitoring_and_may_come_by_their_digest(stack: Stack) -> None:
    body = {"name": "app", "scopes": ["events"], "digest": digest_of("from-the-old-hash")}
    with stack.monitoring() as monitoring:
        assert monitoring.post("/v1/keys", json=body).json()["key"] is None
    with stack.monitoring() as monitoring, stack.ingestion() as ingestion:
        becomes(ingestion, "from-the-old-hash", 200)

        def last_used() -> int | None:
            (entry,) = monitoring.get("/v1/keys").json()["items"]
            used: int | None = entry["last_used_at"]
            return used

        until(lambda: last_used() is not None, "the last use of the key")
