"""Clients of Redis by its URL: of one server, of the primary that Sentinels name, or of a cluster.

redis-py has no URL for Sentinels. Theirs is `redis+sentinel://host:port,host:port/service/db`, as
others read it, too. Nor has it one for several nodes of a Redis Cluster, which is
`redis+cluster://host:port,host:port`. With `rediss+…` all connections are by TLS.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelPool
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.stores.cluster_clients import BlockingCluster, WaitingCluster

_SENTINEL: Final = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^@/?#]+)"
    r"/(?P<service>[^/?#]+)(?:/(?P<db>\d*))?(?:\?(?P<options>[^#]*))?"
)
_CLUSTER: Final = re.compile(
    r"(?P<scheme>rediss?)\+cluster://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^@/?#]+)"
    r"/?(?:\?(?P<options>[^#]*))?"
)
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>\d{1,5}))?")
_SENTINEL_PORT: Final = 26_379
_NODE_PORT: Final = 6_379
_OF_SENTINELS: Final = "sentinel_"
_FORMS: Final = (
    "SLIPSTREAM_REDIS__URL is none of redis://user:password@host:port/db, rediss://… (TLS), "
    "redis+sentinel://user:password@host:port,host:port/service/db, and "
    "redis+cluster://user:password@host:port,host:port"
)


class SentinelAddress(NamedTuple):
    """Where Sentinels are, and what they watch.

    Attributes:
        sentinels: host and port of each.
        service: the name by which they know the primary.
        server: options of connections to Redis.
        asking: options of connections to the Sentinels.
    """

    sentinels: Sequence[tuple[str, int]]
    service: str
    server: dict[str, Any]
    asking: dict[str, Any]


class ClusterAddress(NamedTuple):
    """Where nodes of a Redis Cluster are.

    Attributes:
        nodes: host and port of some of them, who tell of the others.
        server: options of connections to all of them.
    """

    nodes: Sequence[tuple[str, int]]
    server: dict[str, Any]


def sentinel_address(url: str) -> SentinelAddress | None:
    """The address in a URL of Sentinels; None for a URL of one server.

    Options are those of redis-py. The ones of TLS are for Sentinels, too; one that begins with
    `sentinel_`, such as `sentinel_password`, is for them alone. Raises `RefusedSettingsError` for
    an address without hosts or a service.
    """
    if "+sentinel:" not in url.partition("//")[0]:
        return None
    found = _SENTINEL.fullmatch(url)
    if found is None:
        raise RefusedSettingsError(_FORMS)
    options = _server_options(found, found["db"] or "0")
    server = {name: value for name, value in options.items() if not name.startswith(_OF_SENTINELS)}
    asking = {
        name.removeprefix(_OF_SENTINELS): value
        for name, value in options.items()
        if name == "ssl" or name.startswith((_OF_SENTINELS, "ssl_"))
    }
    return SentinelAddress(_hosts(found, _SENTINEL_PORT), found["service"], server, asking)


def cluster_address(url: str) -> ClusterAddress | None:
    """The address in a URL of a Redis Cluster; None for any other URL.

    Options are those of redis-py. Raises `RefusedSettingsError` for an address without hosts, and
    for one with a database: a cluster has one alone.
    """
    if "+cluster:" not in url.partition("//")[0]:
        return None
    found = _CLUSTER.fullmatch(url)
    if found is None:
        raise RefusedSettingsError(_FORMS)
    options = _server_options(found, "0")
    del options["db"]
    return ClusterAddress(_hosts(found, _NODE_PORT), options)


def blocking_client(url: str, timeout_s: float, max_connections: int) -> Any:
    """A blocking client, which connects on first use. Untyped: its types say `bytes | str`.

    `timeout_s` is the deadline of a command, and of a connection; `max_connections` are those to
    each node of a cluster. Raises `RefusedSettingsError` for what is no URL of Redis.
    """
    waits = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    if (cluster := cluster_address(url)) is not None:
        return BlockingCluster(
            cluster.nodes, {**cluster.server, **waits, "max_connections": max_connections}
        )
    address = sentinel_address(url)
    if address is None:
        _options(url)
        return redis.Redis.from_url(url, max_connections=max_connections, **waits)
    # A Sentinel that is unavailable costs one attempt: the next one is asked.
    asking = {**address.asking, **waits, "retry": Retry(NoBackoff(), 0)}
    pool = _PrimaryPool(  # type: ignore[no-untyped-call]
        address.service,
        Sentinel(address.sentinels, sentinel_kwargs=asking),  # type: ignore[no-untyped-call]
        check_connection=True,
        max_connections=max_connections,
        **{**address.server, **waits},
    )
    return redis.Redis.from_pool(pool)


def waiting_client(url: str, timeout_s: float, max_connections: int) -> Any:
    """A client for an event loop. Its callers wait for a connection up to `timeout_s`.

    Else as `blocking_client`.
    """
    waits = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    limits: dict[str, Any] = {"max_connections": max_connections, "timeout": timeout_s}
    if (cluster := cluster_address(url)) is not None:
        return WaitingCluster(cluster.nodes, {**cluster.server, **waits}, **limits)
    address = sentinel_address(url)
    if address is None:
        _options(url)
        pool = redis.asyncio.BlockingConnectionPool.from_url(url, **waits, **limits)
        return _packing(redis.asyncio.Redis.from_pool(pool))
    return _packing(redis.asyncio.Redis.from_pool(_waiting_pool(address, waits | limits)))


def single_client(url: str, timeout_s: float) -> Any:
    """A client for an event loop with one connection (to each node), which tries a command once.

    Else as `blocking_client`.
    """
    waits: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    once: dict[str, Any] = {"retry": AsyncRetry(NoBackoff(), 0)}
    limits: dict[str, Any] = {"max_connections": 1, "timeout": timeout_s}
    if (cluster := cluster_address(url)) is not None:
        return WaitingCluster(cluster.nodes, {**cluster.server, **waits, **once}, **limits)
    address = sentinel_address(url)
    if address is None:
        _options(url)
        return _packing(
            redis.asyncio.Redis.from_url(url, single_connection_client=True, **waits, **once)
        )
    # A connection outside a pool would go back to the server that it was lost to, which may be no
    # primary any more.
    return _packing(redis.asyncio.Redis.from_pool(_waiting_pool(address, waits | once | limits)))


class _PackingConnection:
    """A connection for an event loop. hiredis writes its commands, as for blocking clients.

    redis-py writes them in Python there: 1 µs an argument instead of 0.1.
    """

    pack_command = HiredisRespSerializer.pack


def _packing(client: Any) -> Any:
    pool = client.connection_pool
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_PackingConnection, kind), {})
    return client


class _PrimaryPool(SentinelConnectionPool):
    """Connections to the primary, which closes those to the Sentinels with its own."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


class _WaitingPrimaryPool(AsyncSentinelPool, redis.asyncio.BlockingConnectionPool):
    """`_PrimaryPool` for an event loop. Its callers wait for a connection."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


def _waiting_pool(address: SentinelAddress, options: dict[str, Any]) -> _WaitingPrimaryPool:
    waits = {name: value for name, value in options.items() if name.startswith("socket_")}
    asking = {**address.asking, **waits, "retry": AsyncRetry(NoBackoff(), 0)}
    return _WaitingPrimaryPool(  # type: ignore[no-untyped-call]
        address.service,
        AsyncSentinel(address.sentinels, sentinel_kwargs=asking),  # type: ignore[no-untyped-call]
        check_connection=True,
        **{**address.server, **options},
    )


def _server_options(found: re.Match[str], db: str) -> dict[str, Any]:
    """The options of connections to servers in a URL that was taken apart, without the host."""
    user = f"{found['user']}@" if found["user"] else ""
    options = _options(f"{found['scheme']}://{user}-/{db}?{found['options'] or ''}")
    del options["host"]
    tls = options.pop("connection_class", None) is not None
    return options | ({"ssl": True} if tls else {})


def _hosts(found: re.Match[str], port: int) -> list[tuple[str, int]]:
    """The hosts and ports in a URL that was taken apart; a host alone has the port given."""
    hosts = [_HOST.fullmatch(host) for host in found["hosts"].split(",")]
    if None in hosts:
        raise RefusedSettingsError(_FORMS)
    return [
        (host["name"].strip("[]"), int(host["port"] or port)) for host in hosts if host is not None
    ]


def _options(url: str) -> dict[str, Any]:
    """What redis-py reads in a URL of one server."""
    try:
        return dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError:
        # The reason may quote the password.
        raise RefusedSettingsError(_FORMS) from None
