"""What a Redis has to be: its memory, with the refusal of a server that would evict keys or that is
a node of a cluster under the URL of one server.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from slipstream.chassis.dependencies import RefusedSettingsError

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

    Raises `RefusedSettingsError` when the server evicts keys once its memory is full: a visitor who
    was evicted would begin anew, and an id that was evicted would count twice. A full server that
    evicts nothing refuses writes, which then wait.
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
