"""Redis tells its writers what it has lost, and when it will lose nothing any more."""

import pytest

from slipstream.chassis.settings import RedisSettings
from slipstream.stores.online import (
    CheckpointMove,
    Durability,
    OnlineStore,
    StoreUnavailableError,
)
from tests.conftest import OwnRedis
from tests.integration.redis_failures import client_of, replicated
from tests.integration.test_features_online_store import NOW, placed, view
from tests.waiting import until


def test_checkpoints_go_on_and_never_back_and_not_where_one_holds_less(store: OnlineStore) -> None:
    assert store.checkpoints(["t:0", "t:1"]) == {}
    assert store.advance({"t:0": CheckpointMove(-1, 10), "t:1": CheckpointMove(-1, 3)})
    assert store.advance({"t:0": CheckpointMove(10, 20)})
    assert store.advance({"t:0": CheckpointMove(10, 15)})
    assert store.checkpoints(["t:0", "t:1", "t:2"]) == {"t:0": 20, "t:1": 3}
    assert not store.advance({"t:1": CheckpointMove(3, 9), "t:0": CheckpointMove(21, 30)})
    assert store.checkpoints(["t:0", "t:1"]) == {"t:0": 20, "t:1": 3}


def test_restarted_server_refuses_each_writer_though_another_has_met_it(
    own_redis: OwnRedis, namespace: str
) -> None:
    settings, server = own_redis()
    busy, idle = OnlineStore(settings, namespace), OnlineStore(settings, namespace)
    records = placed([view("a"), view("b", NOW + 1)])
    for store in (busy, idle):
        store.apply(records)
        store.advance({"t:0": CheckpointMove(-1, 1)})
    server.kill()
    server.start()
    for store in (busy, idle):
        # Whether the file has the last write is up to the disk, so the least is nothing.
        with pytest.raises(StoreUnavailableError):
            store.advance({"t:0": CheckpointMove(-1, 2)})
        assert store.advance({"t:0": CheckpointMove(-1, 2)})
        store.close()


def test_failed_writes_leave_no_more_scripts_behind(own_redis: OwnRedis, namespace: str) -> None:
    settings, _ = own_redis()
    client, store = client_of(settings), OnlineStore(settings, namespace)
    store.apply(placed([view("a")]))
    scripts = client.info("memory")["number_of_cached_scripts"]
    client.config_set("maxmemory", 1)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            store.apply(placed([view("a"), view("b")]))
    assert client.info("memory")["number_of_cached_scripts"] == scripts
    store.close()


@pytest.mark.servers("real")
def test_effects_are_durable_once_the_file_has_them_and_lost_effects_never(
    own_redis: OwnRedis, namespace: str
) -> None:
    settings, _ = own_redis()
    client, store = client_of(settings), OnlineStore(settings, namespace)
    store.advance({"t:0": CheckpointMove(-1, 10)})
    until(lambda: store.durability({"t:0": 10}) is Durability.SAFE)  # the disk may take longer
    assert store.durability({"t:0": 11}) is Durability.LOST
    assert store.durability({"t:0": 10, "t:1": 1}) is Durability.LOST
    client.config_set("appendfsync", "no")
    store.advance({"t:0": CheckpointMove(10, 20)})
    assert store.durability({"t:0": 20}) is Durability.PENDING, "nothing is written to the disk"
    client.config_set("appendonly", "no")
    assert store.durability({"t:0": 20}) is Durability.SAFE, "there is no file to wait for"
    store.close()


@pytest.mark.servers("real")
def test_effects_are_durable_once_a_replica_has_them(own_redis: OwnRedis, namespace: str) -> None:
    (settings, server), (spare, _) = own_redis(), own_redis()
    store = OnlineStore(settings, namespace)
    with replicated(settings, spare, server) as link:
        store.advance({"t:0": CheckpointMove(-1, 10)})
        until(lambda: store.durability({"t:0": 10}) is Durability.SAFE)
        link.hold()
        store.advance({"t:0": CheckpointMove(10, 20)})
        assert store.durability({"t:0": 20}) is Durability.PENDING
    store.close()


def test_user_who_may_not_ask_for_facts_writes_all_the_same(
    own_redis: OwnRedis, namespace: str
) -> None:
    settings, server = own_redis()
    client_of(settings).execute_command(
        "ACL", "SETUSER", "shop", "on", ">s3cret", "~*", "+@all", "-info", "-waitaof"
    )
    store = OnlineStore(RedisSettings(url=f"redis://shop:s3cret@{server.address}/0"), namespace)
    store.apply(placed([view("a")]))
    assert store.advance({"t:0": CheckpointMove(-1, 1)})
    assert store.durability({"t:0": 1}) is Durability.SAFE
    assert store.memory().limit is None
    store.close()
