"""An erased user's id, looked for in every byte of every store, on the servers of production."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import text

from services.features.app import create_app as create_features
from services.features.settings import FeaturesSettings
from services.ingestion.app import create_app as create_ingestion
from services.ingestion.settings import IngestionSection, IngestionSettings
from services.monitoring.app import create_app as create_monitoring
from services.monitoring.people.receipts import PLACES
from services.monitoring.settings import MonitoringSection, MonitoringSettings
from services.training.app import create_app as create_training
from services.training.settings import TrainingSection, TrainingSettings
from slipstream.broker.producer import Producer
from slipstream.chassis.settings import (
    AccessSettings,
    ArtifactSettings,
    DatabaseSettings,
    HttpSettings,
    LakeSettings,
    PeerSettings,
)
from slipstream.contracts.events import Slate, SlateItem
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import PERSONAL, RECOMMENDATIONS
from slipstream.contracts.vocabulary import SHADOW
from slipstream.stores.lake import SCHEMAS, Lake
from slipstream.stores.metadata import engine
from slipstream_cli.local.processes import Child
from tests.conftest import OwnRedis
from tests.integration.byte_search import keys_with
from tests.integration.running_materializer import QUICK
from tests.integration.searched_stores import (
    DEVICE,
    KEY,
    PLANTED,
    STRANGER,
    USER,
    Client,
    Disks,
    broker_child,
    disks,
)
from tests.integration.training_service import ended, served
from tests.servers import Servers, kafka_settings
from tests.topics import keep_records_for
from tests.unit.training.histories import chain, write
from tests.waiting import until

__all__ = ["broker_child", "disks"]


def plant(ingestion: httpx.Client, slates: Producer) -> None:
    """Everything about the user that clients can send, slates, and shadows of these."""
    for path, body in {
        "identify": {"userId": USER, "anonymousId": DEVICE, "traits": {"mail": f"{USER}@example"}},
        "users": {"users": [{"user_id": USER, "attributes": {"called": USER}}]},
        "track": {"userId": USER, "event": 7, "properties": {"note": DEVICE}},
        "alias": {"userId": USER, "previousId": DEVICE},
    }.items():
        assert ingestion.post(f"/v1/{path}", json=body, auth=KEY).status_code == 200
    for name in (*PLANTED, STRANGER):
        slate = Slate(
            recommendation_id=f"r-{name}",
            user_id=name,
            timestamp=now_ms(),
            items=[SlateItem(item_id="i1", score=1.0, source="ease")],
            answered_by="model",
            circumstances={"form": 1, "history": {"items": [f"made-by-{name}"]}},
        )
        shadow = {"recommendation_id": f"s-{name}", "purpose": SHADOW, "shadow_of": f"r-{name}"}
        slates.send(RECOMMENDATIONS, name, slate)
        slates.send(RECOMMENDATIONS, name, slate.model_copy(update=shadow))
    slates.flush(30)


def places(receipt: dict[str, Any], *, done: bool) -> set[str]:
    return {each["place"] for each in receipt["places"] if each["done"] == done}


def sql(database: DatabaseSettings, *statements: str) -> None:
    """Run statements outside a transaction, as PostgreSQL's administrator."""
    db = engine(database)
    if db.dialect.name == "postgresql":
        with db.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.execute(text(statement))
    db.dispose()


@pytest.mark.servers("real")
@pytest.mark.timeout(1_200)
def test_no_byte_of_an_erased_user_is_left_in_any_store(
    disks: Disks, broker_child: Child, own_redis: OwnRedis, servers: Servers, namespace: str
) -> None:
    redis_settings, _ = own_redis()
    with redis.Redis.from_url(redis_settings.url.get_secret_value()) as server:
        server.config_set("rdbcompression", "no")  # So that its files can be searched.
        server.config_set("save", "3600 1")
    kafka = kafka_settings(servers, broker_child)
    lake_settings = LakeSettings(uri=str(disks.folder / "lake"))
    lake = Lake(lake_settings, namespace)
    write(lake, chain())
    common: dict[str, Any] = {
        "kafka": kafka,
        "namespace": namespace,
        "http": HttpSettings(api_token=SecretStr("operator")),
        "access": AccessSettings(token_secret=SecretStr("s" * 40)),
    }
    stores = {"redis": redis_settings, "lake": lake_settings}
    operator = {"Authorization": "Bearer operator"}

    with ExitStack() as stack:

        def serve(app: Any) -> httpx.Client:
            client = stack.enter_context(served(app))
            client.headers.update(operator)
            return client

        features_section = QUICK.model_copy(update={"erase_every_s": 0.3})
        features = serve(
            create_features(FeaturesSettings(**common, **stores, features=features_section))
        )
        training = serve(
            create_training(
                TrainingSettings(
                    **common,
                    database=disks.database,
                    lake=lake_settings,
                    artifacts=ArtifactSettings(directory=disks.folder / "models"),
                    training=TrainingSection(
                        tracking_uri=SecretStr(f"sqlite:///{disks.folder}/sql/mlflow.db"),
                        keep_models=2,
                        niceness=0,  # the run is waited for
                    ),
                )
            )
        )
        peers = PeerSettings(
            features_url=str(features.base_url),
            training_url=str(training.base_url),
            timeout_s=30,
        )
        section = MonitoringSection(
            check_interval_s=600,
            erase_every_s=0.2,
            erasure_caches_h=0,
            log_retention_d=0,
            count_every_s=0.3,
        )
        monitoring = serve(
            create_monitoring(
                MonitoringSettings(
                    **common,
                    database=disks.database,
                    lake=lake_settings,
                    peers=peers,
                    monitoring=section,
                )
            )
        )
        peers = PeerSettings(monitoring_url=str(monitoring.base_url), timeout_s=30)
        ingestion = serve(
            create_ingestion(
                IngestionSettings(
                    **common,
                    redis=redis_settings,
                    peers=peers,
                    ingestion=IngestionSection(
                        write_keys=SecretStr("shop:s3cret"),
                    ),
                )
            )
        )
        del ingestion.headers["Authorization"]
        slates = Producer(kafka, namespace)
        stack.callback(slates.close)

        chance, url = random.Random(5), str(ingestion.base_url)
        clients = [
            Client(url, visitor, chance.randrange(-3_000_000, 3_000_000))
            for visitor in (
                {"userId": USER, "anonymousId": DEVICE},
                {"anonymousId": DEVICE},
                {"userId": STRANGER},
            )
        ]
        for client in clients:
            client.start()
        plant(ingestion, slates)
        until(lambda: all(client.sent > 50 for client in clients), "clients do not send")
        sql(disks.database, "ANALYZE")
        until(
            lambda: _seen(features) and {"sql", "lake"} <= disks.found(*PLANTED).keys(), "no rows"
        )
        run = ended(training, training.post("/v1/runs", json={}).json()["run_id"])
        assert run["state"] == "succeeded", run
        for client in clients[:2]:
            client.end()
        before = disks.found(*PLANTED)
        assert {"redis-0", "broker", "lake", "sql"} <= before.keys(), before

        erased = ingestion.delete(f"/v1/users/{USER}", auth=KEY).json()
        path = f"/v1/erasures/{erased['erasure_id']}"
        asked = ingestion.get(path, auth=KEY)
        assert asked.status_code in (200, 202) and not asked.json()["complete"], asked.text

        receipt: dict[str, Any] = {}

        def has_done(*names: str) -> Callable[[], bool]:
            def done() -> bool:
                answer = ingestion.get(path, auth=KEY)
                if answer.status_code not in (200, 202):  # a service did not answer in time
                    return False
                receipt.clear()
                receipt.update(answer.json())
                return set(names) <= places(receipt, done=True)

            return done

        until(has_done("redis", "lake", "monitoring", "redis files"), f"{receipt}")
        by_time = {"topics", "dead letters", "late records"}
        assert places(receipt, done=False) == {"lake files", "models", *by_time}
        by_name = {each["place"]: each for each in receipt["places"]}
        assert "people.v1 until 20" in by_name["topics"]["detail"]
        assert run["model_version"] in by_name["models"]["detail"]
        clients[2].end()
        for _ in range(2):  # The time of newer models: the one before the champion stays, too.
            run = ended(training, training.post("/v1/runs", json={}).json()["run_id"])
            assert run["state"] == "succeeded", run
            if run["decision"] != "promoted":
                promoted = training.post(f"/v1/models/{run['model_version']}:promote", json={})
                assert promoted.status_code == 200, promoted.text
        ended(training, training.post("/v1/runs", json={}).json()["run_id"])
        until(has_done("models"), f"{receipt}")
        assert not receipt["complete"] and "lake files" in places(receipt, done=False)
        keep_records_for(kafka, namespace, PERSONAL, 1)  # The time of the topics' retention.

        def complete() -> bool:
            for table in SCHEMAS:  # The time of the next vacuum. Merges leave more files meanwhile.
                lake.vacuum(table, 0)
            return has_done(*{*PLACES} - {"late records"})()

        until(complete, f"{receipt}")
        assert places(receipt, done=False) == {"late records"}, "for a month"
        sql(disks.database, "VACUUM FULL pg_statistic")

        def left() -> dict[str, list[str]]:
            # The end of PostgreSQL's write-ahead log, which comes with time and traffic.
            sql(disks.database, "SELECT pg_switch_wal()", "CHECKPOINT")
            return disks.found(*PLANTED)

        _settled(left, {})
        assert [*keys_with(PLANTED, redis_settings, namespace)] == []
        kept = disks.found(STRANGER)
        assert {"redis-0", "lake", "sql"} <= kept.keys(), "the search finds what is there"

        audit = monitoring.get("/v1/audit").json()["items"][0]
        assert (audit["principal"], audit["action"]) == ("shop", "erase_user")
        assert audit["subject"] == erased["erasure_id"]


def _seen(features: httpx.Client) -> bool:
    return bool(features.get("/v1/status").json()["applied"])


def _settled(read: Callable[[], Any], wanted: Any, limit_s: float = 60) -> None:
    """Wait until a value is as wanted; complains with what it is instead."""
    deadline = time.monotonic() + limit_s
    while (value := read()) != wanted:
        assert time.monotonic() < deadline, value
        time.sleep(0.2)
