"""Clients of a Redis Cluster: redis-py's own, which connect on first use, and wait for a turn.

They ask the nodes in the URL where the others are, whenever that has changed. So a name that leads
to other addresses by then is looked up anew.
"""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

# Times that a command is tried again, once it is known anew which node has its slot.
_RETRIES: Final = 3
# As many as a node's class can count: turns limit them.
_MANY: Final = 2**31 - 1


class BlockingCluster:
    """A blocking client. Threads may share it."""

    def __init__(self, nodes: Sequence[tuple[str, int]], options: Mapping[str, Any]) -> None:
        self._nodes, self._options = nodes, options
        self._client: RedisCluster | None = None
        self._lock = threading.Lock()

    def connected(self) -> RedisCluster:
        """redis-py's client, which knows the nodes."""
        with self._lock:
            if self._client is None:
                self._client = RedisCluster(
                    startup_nodes=[ClusterNode(host, port) for host, port in self._nodes],  # type: ignore[no-untyped-call]
                    dynamic_startup_nodes=False,
                    retry=Retry(NoBackoff(), _RETRIES),
                    **self._options,
                )
            return self._client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connected(), name)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


class WaitingCluster(AsyncRedisCluster):
    """A client for an event loop, whose commands wait for one of `max_connections` turns.

    redis-py's own refuses a command when all connections to a node are taken. Pipelines do not
    wait; whoever sends them limits their number.
    """

    def __init__(
        self,
        nodes: Sequence[tuple[str, int]],
        options: Mapping[str, Any],
        *,
        max_connections: int,
        timeout: float,
    ) -> None:
        super().__init__(
            startup_nodes=[AsyncClusterNode(host, port) for host, port in nodes],
            dynamic_startup_nodes=False,
            max_connections=_MANY,
            **{"retry": Retry(NoBackoff(), _RETRIES), **options},
        )
        self._turns, self._timeout_s = asyncio.Semaphore(max_connections), timeout

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
        except TimeoutError as error:
            raise RedisTimeoutError("no connection to Redis was free in time") from error
        try:
            return await super().execute_command(*args, **kwargs)
        except RedisClusterException as error:  # which is no error of Redis to redis-py
            raise RedisConnectionError(str(error)) from error
        finally:
            self._turns.release()
