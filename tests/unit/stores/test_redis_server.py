"""A Redis server as its INFO tells it."""

import pytest

from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.stores.redis_server import RedisMemory, redis_memory, refuse_cluster


def test_server_without_a_limit_or_without_a_word_of_its_policy_passes() -> None:
    assert redis_memory({"used_memory": 7}) == RedisMemory(7, None)
    facts = {"used_memory": 7, "maxmemory": 9, "maxmemory_policy": "noeviction"}
    assert redis_memory(facts) == RedisMemory(7, 9)
    assert redis_memory(facts | {"maxmemory": 0}) == RedisMemory(7, None)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_server_that_evicts_is_refused_also_without_a_limit(policy: str) -> None:
    with pytest.raises(RefusedSettingsError, match=f"{policy}.*set maxmemory-policy noeviction"):
        redis_memory({"used_memory": 7, "maxmemory": 0, "maxmemory_policy": policy})


def test_share_of_memory_is_that_of_the_limit() -> None:
    assert [RedisMemory(5, limit).share() for limit in (10, None)] == [0.5, 0.0]


def test_node_of_a_cluster_is_no_server_and_any_other_one_passes() -> None:
    with pytest.raises(RefusedSettingsError, match=r"SLIPSTREAM_REDIS__URL .* redis\+cluster://"):
        refuse_cluster({"redis_version": "8.0.2", "cluster_enabled": 1})
    for facts in ({}, {"cluster_enabled": 0}):
        refuse_cluster(facts)
