"""States that a newer version has written: an older one stops before them, and loses nothing."""

import pytest
import redis

from services.features.settings import FeaturesSettings
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.stores.layout import Keys
from slipstream.stores.online import OnlineStore, StoreTooNewError
from tests.integration.running_materializer import QUICK, failure, members, running
from tests.integration.shop_stream import assert_exactly, events, link, send
from tests.integration.test_features_online_store import NOW, placed, view
from tests.waiting import until

NEWER = b"12345678\x04written by a newer version"


def deletion(user_id: str) -> CatalogRecord:
    return CatalogRecord(entity="user", entity_id=user_id, deleted=True, timestamp=NOW)


def test_state_of_a_newer_version_stops_the_writer_and_stays(
    redis_settings: RedisSettings, namespace: str
) -> None:
    store = OnlineStore(redis_settings, namespace)
    keys = Keys(namespace)
    records = placed([view("newer", user="newer"), view("a", NOW + 1, "v")])
    for key in (keys.visitor("newer"), keys.item("newer"), keys.trending):
        store._redis.set(key, NEWER)
        for write in (
            lambda: store.apply(records),
            lambda: store.link([StreamCatalogRecord("c:0", 1, link("newer", "user"))]),
            lambda: store.link([StreamCatalogRecord("c:0", 2, link("visitor", "newer"))]),
            lambda: store.erase(StreamCatalogRecord("c:0", 3, deletion("newer"))),
        )[: None if key == keys.visitor("newer") else 1]:
            with pytest.raises(StoreTooNewError, match="finish the upgrade"):
                write()
        assert store._redis.get(key) == NEWER
        store._redis.delete(key)
    store.apply(records)
    assert dict(store.trending(5)).keys() == {"newer", "a"}
    store.close()


def test_a_state_of_a_newer_version_stops_the_reader_and_its_records_are_not_committed(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
) -> None:
    settings = FeaturesSettings(
        kafka=broker, redis=redis_settings, lake=lake_settings, namespace=namespace, features=QUICK
    )
    client = redis.Redis.from_url(redis_settings.url.get_secret_value())
    key = Keys(settings.namespace).visitor("u0")
    made = events(200, visitors=1)
    with running(settings) as run:
        client.set(key, NEWER)
        send(run.producer, made)
        until(lambda: "newer version" in str(failure(run.worker.check)))
        # Out of the group, so that a newer replica may have the partitions; until that is there,
        # this one tries again.
        until(lambda: members(settings) == 0)
        assert run.materializer.progress(0.1).applied == 0
        client.delete(key)
        run.settle()
        assert_exactly(made, run.store, run.lake)
