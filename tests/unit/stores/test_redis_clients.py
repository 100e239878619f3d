"""URLs of Redis: of one server, of the Sentinels that name one, and of a cluster."""

from collections.abc import Callable

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException
from redis.exceptions import TimeoutError as RedisTimeoutError

from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.stores.redis_clients import (
    blocking_client,
    cluster_address,
    sentinel_address,
    single_client,
    waiting_client,
)

NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
HOSTS = st.lists(st.tuples(NAMES, st.integers(1, 65_535)), min_size=1, max_size=5)


@given(hosts=HOSTS, service=NAMES, db=st.integers(0, 15))
def test_hosts_and_service_and_database_are_read(
    hosts: list[tuple[str, int]], service: str, db: int
) -> None:
    places = ",".join(f"{name}:{port}" for name, port in hosts)
    address = sentinel_address(f"redis+sentinel://{places}/{service}/{db}")
    assert address is not None
    assert (address.sentinels, address.service) == (hosts, service)
    assert (address.server, address.asking) == ({"db": db}, {})


def test_credentials_and_certificates_go_to_whom_they_are_for() -> None:
    address = sentinel_address(
        "rediss+sentinel://shop:p%40ss@one,[::1]:5000/main"
        "?ssl_ca_certs=/ca.pem&sentinel_password=other&health_check_interval=5"
    )
    assert address is not None
    assert address.sentinels == [("one", 26_379), ("::1", 5_000)]
    tls = {"ssl": True, "ssl_ca_certs": "/ca.pem"}
    user = {"username": "shop", "password": "p@ss"}
    assert address.server == {"db": 0, "health_check_interval": 5, **user, **tls}
    assert address.asking == {"password": "other", **tls}


@given(hosts=HOSTS, end=st.sampled_from(["", "/"]))
def test_the_nodes_of_a_cluster_are_read(hosts: list[tuple[str, int]], end: str) -> None:
    places = ",".join(f"{name}:{port}" for name, port in hosts)
    address = cluster_address(f"redis+cluster://{places}{end}")
    assert address is not None
    assert (address.nodes, address.server) == (hosts, {})


def test_credentials_and_certificates_are_for_every_node_of_a_cluster() -> None:
    address = cluster_address(
        "rediss+cluster://shop:p%40ss@one,[::1]:5000?ssl_ca_certs=/ca.pem&health_check_interval=5"
    )
    assert address is not None
    assert address.nodes == [("one", 6_379), ("::1", 5_000)]
    assert address.server == {
        "username": "shop",
        "password": "p@ss",
        "ssl": True,
        "ssl_ca_certs": "/ca.pem",
        "health_check_interval": 5,
    }


@pytest.mark.parametrize("url", ["redis://one:6379/0", "rediss://:pass@one/0", "unix:///redis"])
def test_a_url_of_one_server_names_neither_sentinels_nor_a_cluster(url: str) -> None:
    assert sentinel_address(url) is None
    assert cluster_address(url) is None


def test_a_client_of_a_cluster_connects_on_first_use() -> None:
    client = blocking_client("redis+cluster://127.0.0.1:1", 1.0, 1)
    with pytest.raises(RedisClusterException, match="reachable node"):
        client.ping()
    client.close()


async def test_commands_to_a_cluster_wait_for_a_turn() -> None:
    client = waiting_client("redis+cluster://127.0.0.1:1", 0.05, 1)
    await client._turns.acquire()
    with pytest.raises(RedisTimeoutError, match="free in time"):
        await client.ping()
    client._turns.release()
    with pytest.raises(RedisConnectionError, match="reachable node"):
        await client.ping()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one:26379",
        "redis+sentinel:///shop/0",
        "redis+sentinel://one:26379,/shop/0",
        "redis+sentinel://one:port/shop/0",
        "redis+sentinel://one/shop/zero",
        "http+sentinel://one/shop/0",
        "redis+cluster://one:6379/0",
        "redis+cluster://",
        "redis+cluster://one:6379,",
        "redis+cluster://one:port",
        "http+cluster://one:6379",
        "redis+proxy://one:6379",
        "redis://:secret/pass@one:6379/0",
    ],
)
def test_what_is_no_url_of_redis_is_refused_without_its_password(url: str) -> None:
    makers: list[Callable[[], object]] = [
        lambda: blocking_client(url, 1.0, 1),
        lambda: waiting_client(url, 1.0, 1),
        lambda: single_client(url, 1.0),
    ]
    for make in makers:
        with pytest.raises(RefusedSettingsError, match="SLIPSTREAM_REDIS__URL") as refused:
            make()
        assert "secret" not in str(refused.value)


def test_commands_of_an_event_loop_have_the_bytes_of_redis_py() -> None:
    command = (
        "EVALSHA",
        "a" * 40,
        2,
        "{s}:é",
        b"\x00\xff",
        0.1,
        1e21,
        1000 / 3,
        -7,
        "",
        "x" * 9_000,
    )
    plain = redis.asyncio.Connection()
    for client in (
        single_client("redis://127.0.0.1:1/0", 1.0),
        waiting_client("redis://127.0.0.1:1/0", 1.0, 1),
        single_client("redis+sentinel://127.0.0.1:1/shop/0", 1.0),
    ):
        connection = client.connection_pool.make_connection()
        for arguments in (command, ("SCRIPT LOAD", "return 1")):
            packed = b"".join(connection.pack_command(*arguments))
            assert packed == b"".join(plain.pack_command(*arguments))
