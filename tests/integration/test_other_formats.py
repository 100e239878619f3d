"""Values in Redis and tables of the lake that another version has made are refused, and stay."""

import threading

import pytest
import redis
from deltalake import DeltaTable

from services.features.app import keep_lake
from services.features.settings import FeaturesSettings
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.stores.lake import CATALOG, SCHEMAS, Lake
from slipstream.stores.layout import Keys
from slipstream.stores.online import OnlineStore, StoreFormatError
from tests.integration.running_materializer import QUICK, failure, members, running
from tests.integration.shop_stream import assert_exactly, events, link, send
from tests.integration.test_features_online_store import NOW, placed, view
from tests.waiting import until

# The second format of states, from before the present one.
OTHER = b"12345678\x02written by another version"


def deletion(user_id: str) -> CatalogRecord:
    return CatalogRecord(entity="user", entity_id=user_id, deleted=True, timestamp=NOW)


def test_value_of_another_version_stops_the_writer_and_stays(
    redis_settings: RedisSettings, namespace: str
) -> None:
    store = OnlineStore(redis_settings, namespace)
    keys = Keys(namespace)
    records = placed([view("other", user="other"), view("a", NOW + 1, "v")])
    for key in (keys.visitor("other"), keys.item("other"), keys.trending):
        store._redis.set(key, OTHER)
        for write in (
            lambda: store.apply(records),
            lambda: store.link([StreamCatalogRecord("c:0", 1, link("other", "user"))]),
            lambda: store.link([StreamCatalogRecord("c:0", 2, link("visitor", "other"))]),
            lambda: store.erase(StreamCatalogRecord("c:0", 3, deletion("other"))),
        )[: None if key == keys.visitor("other") else 1]:
            with pytest.raises(StoreFormatError, match="begin with an empty Redis"):
                write()
        assert store._redis.get(key) == OTHER
        store._redis.delete(key)
    store.apply(records)
    assert dict(store.trending(5)).keys() == {"other", "a"}
    store.close()


@pytest.fixture
def settings(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
) -> FeaturesSettings:
    return FeaturesSettings(
        kafka=broker, redis=redis_settings, lake=lake_settings, namespace=namespace, features=QUICK
    )


def test_a_store_from_before_is_refused_at_the_start(
    settings: FeaturesSettings,
) -> None:
    client = redis.Redis.from_url(settings.redis.url.get_secret_value())
    client.set(Keys(settings.namespace).trending, OTHER)
    with running(settings) as run:
        until(lambda: "begin with an empty Redis" in str(failure(run.worker.check)))
        assert members(settings) == 0
    client.delete(Keys(settings.namespace).trending)
    client.close()


def test_a_lake_of_other_columns_is_refused_at_the_start(lake_settings: LakeSettings) -> None:
    DeltaTable.create(f"{lake_settings.uri}/shop/{CATALOG}", SCHEMAS[CATALOG])
    with pytest.raises(RefusedSettingsError, match=r"catalog .* begin with an empty folder"):
        keep_lake(Lake(lake_settings, "shop"), QUICK, threading.Event())


def test_a_value_of_another_version_stops_the_reader_and_its_records_are_not_committed(
    settings: FeaturesSettings,
) -> None:
    client = redis.Redis.from_url(settings.redis.url.get_secret_value())
    key = Keys(settings.namespace).visitor("u0")
    made = events(200, visitors=1)
    with running(settings) as run:
        client.set(key, OTHER)
        send(run.producer, made)
        until(lambda: "another version" in str(failure(run.worker.check)))
        # Out of the group, so that a replica of that version may have the partitions; until then
        # this one tries again.
        until(lambda: members(settings) == 0)
        assert run.materializer.progress(0.1).applied == 0
        client.delete(key)
        run.settle()
        assert_exactly(made, run.store, run.lake)
