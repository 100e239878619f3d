"""A Redis server: its memory, whether it can be used, and its files on disk.

A server that would evict keys is refused, and so is a node of a cluster under the URL of one
server. The append-only file and the dump hold deleted keys until they are written again.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.logging import get_logger
from slipstream.chassis.settings import RedisSettings
from slipstream.stores.connection import connect, on_servers, server_facts, translated
from slipstream.stores.layout import Keys

_KEEPS: Final = "noeviction"
_CLUSTER: Final = (
    "Redis is a node of a Redis Cluster, and SLIPSTREAM_REDIS__URL names it as one server: name "
    "the cluster's nodes in it, redis+cluster://user:password@host:port,host:port"
)


class RedisMemory(NamedTuple):
    """Bytes that Redis uses, and its `maxmemory`; None for no limit."""

    used: int
    limit: int | None

    def share(self) -> float:
        """The used share of the limit; 0 without one."""
        return self.used / self.limit if self.limit else 0.0


def redis_memory(facts: Mapping[str, Any]) -> RedisMemory:
    """The memory of a server, by the `memory` section of its INFO.

    Raises `RefusedSettingsError` when the server evicts keys once its memory is full: an evicted
    visitor would start over, and an evicted id would count twice. A full server that evicts nothing
    refuses writes, which then wait.
    """
    policy = str(facts.get("maxmemory_policy", _KEEPS))
    if policy != _KEEPS:
        raise RefusedSettingsError(
            f"Redis has maxmemory-policy {policy}, so it would drop visitors' states and message "
            f"ids when its memory is full: set maxmemory-policy {_KEEPS}"
        )
    return RedisMemory(int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0)) or None)


def refuse_cluster(facts: Mapping[str, Any]) -> None:
    """Raise `RefusedSettingsError` for a node of a Redis Cluster, by its INFO, that is to be one
    server: it would answer for a part of the keys (docs/adr/0064).
    """
    if facts.get("cluster_enabled"):
        raise RefusedSettingsError(_CLUSTER)


log = get_logger(__name__)

_BUSY: Final = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")
_STATUS: Final = ("aof_last_bgrewrite_status", "rdb_last_bgsave_status")


class RedisFiles:
    """The files of the server, or of a cluster's nodes, which one thread has rewritten.

    What was begun stands in Redis, so that another replica goes on with it. Methods raise
    `StoreUnavailableError`.
    """

    def __init__(self, settings: RedisSettings, namespace: str) -> None:
        self._redis, self._keys = connect(settings), Keys(namespace)
        self._refused = False

    def written_at(self) -> int | None:
        """When the files that are there now were begun, the oldest (ms); None where it is not
        known.
        """
        with translated():
            values = [
                self._redis.get(self._keys.files_written(name))
                for name in on_servers(self._redis, _itself)
            ]
        return None if None in values else min(map(int, values))

    def rewrite(self, since_ms: int, now_ms: int) -> None:
        """Have the files rewritten, unless a rewrite was begun after a time.

        Another call finds whether it has ended. A server's refusal is logged.
        """
        with translated():
            for name, server in on_servers(self._redis, _itself).items():
                self._rewrite(name, server, since_ms, now_ms)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _rewrite(self, name: str, server: Any, since_ms: int, now_ms: int) -> None:
        done = self._redis.get(self._keys.files_written(name))
        if done is not None and int(done) >= since_ms:
            return
        facts = server_facts(server, "persistence")
        if any(int(facts.get(name, 0)) for name in _BUSY):
            return
        run_id = str(server_facts(server, "server").get("run_id"))
        begun = (self._redis.get(self._keys.files_begun(name)) or b"").decode()
        by, _, begun_at = begun.partition(" ")
        if by == run_id and int(begun_at) >= since_ms and _is_well(facts):
            self._redis.set(self._keys.files_written(name), begun_at)
            return
        try:
            _begin(server, facts)
        except ResponseError as error:
            if not self._refused:
                log.warning("Redis does not rewrite its files", reason=str(error))
            self._refused = True
            return
        self._redis.set(self._keys.files_begun(name), f"{run_id} {now_ms}")


def _itself(server: Any) -> Any:
    return server


def _begin(server: Any, facts: Mapping[str, Any]) -> None:
    """Ask for the files that this server keeps; raises `ResponseError` where it refuses."""
    saves = ""
    with contextlib.suppress(ResponseError):  # where only `CONFIG` is denied, `INFO` tells
        saves = server.config_get("save").get("save", "")
    if int(facts.get("aof_enabled", 1)):
        server.execute_command("BGREWRITEAOF")
    if saves or int(facts.get("rdb_saves", 0)):
        server.execute_command("BGSAVE", "SCHEDULE")


def _is_well(facts: Mapping[str, Any]) -> bool:
    return all(facts.get(name, "ok") == "ok" for name in _STATUS)
