"""A Redis Cluster of three nodes, to one of which a replica can be added."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import redis
from redis.crc import key_slot

from slipstream_cli.local.processes import Child, free_port, start_together
from slipstream_cli.local.servers import START_S, redis_answers, redis_arguments
from tests.waiting import until

_SLOTS: Final = 16_384
# Silence after which nodes take one for dead, and pause of a restarted one before it takes writes.
# A busy machine is silent for a second.
NODE_TIMEOUT_MS: Final = 3_000


def cluster_children(directory: Path, fsync: str = "always") -> dict[str, Child]:
    """The nodes by name, `redis 1` to `redis 3`, not yet started. Each works in its `node_place`,
    and remembers the others there. `fsync` is their `appendfsync`.
    """
    names = ("redis 1", "redis 2", "redis 3")
    return {name: _child(node_place(directory, name), fsync) for name in names}


def node_place(directory: Path, name: str) -> Path:
    """The folder of a node below that of the cluster."""
    return directory / name.replace(" ", "-")


def join(children: Mapping[str, Child]) -> None:
    """Make the started nodes one cluster, each with a third of the slots, in their order."""
    buses = {}
    for number, child in enumerate(children.values()):
        first, end = _SLOTS * number // len(children), _SLOTS * (number + 1) // len(children)
        with redis.Redis(port=child.port) as node:
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
            buses[child.port] = int(node.config_get("cluster-port")["cluster-port"])
    one, *others = buses
    with redis.Redis(port=one) as node:
        for port in others:
            node.execute_command("CLUSTER MEET", "127.0.0.1", port, buses[port])
    wait_until_whole(children)


def wait_until_whole(children: Mapping[str, Child], owners: int = 0) -> None:
    """Return when each node knows the owner of every slot, and takes writes. As many nodes as
    `owners` have slots; 0: all of them.
    """
    until(lambda: all(_is_whole(child, owners or len(children)) for child in children.values()))


def cluster_url(children: Mapping[str, Child]) -> str:
    """The URL by which services find the nodes."""
    return f"redis+cluster://{','.join(child.address for child in children.values())}"


def owner(children: Mapping[str, Child], key: str) -> str:
    """The name of the node that has a key's slot."""
    names = list(children)
    return next(
        name
        for number, name in enumerate(names)
        if key_slot(key.encode()) < _SLOTS * (number + 1) // len(names)
    )


@contextmanager
def running_cluster(directory: Path) -> Iterator[dict[str, Child]]:
    """Run it for the block. Kill a node with its `kill`; after its `start`, `wait_until_whole`."""
    children = cluster_children(directory)
    try:
        start_together([*children.values()])
        join(children)
        yield children
    finally:
        for child in children.values():
            child.kill()


@contextmanager
def running_replica(directory: Path, children: Mapping[str, Child], name: str) -> Iterator[Child]:
    """Run a replica of a node for the block, from when it follows."""
    child = _child(node_place(directory, f"replica of {name}"))
    try:
        child.start()
        with (
            redis.Redis(port=child.port) as node,
            redis.Redis(port=children[name].port) as followed,
        ):
            bus = int(followed.config_get("cluster-port")["cluster-port"])
            node.execute_command("CLUSTER MEET", "127.0.0.1", children[name].port, bus)
            wait_until_whole({**children, "replica": child}, len(children))
            node.execute_command("CLUSTER REPLICATE", followed.execute_command("CLUSTER MYID"))
            until(lambda: node.info("replication").get("master_link_status") == "up")
            until(lambda: followed.info("replication")["connected_slaves"] == 1)
        yield child
    finally:
        child.kill()


def _child(directory: Path, fsync: str = "always") -> Child:
    port = free_port()
    command = [
        shutil.which("redis-server") or "redis-server",
        *redis_arguments(port, directory),
        *("--appendfsync", fsync, "--cluster-enabled", "yes"),
        *("--cluster-port", str(free_port()), "--cluster-announce-ip", "127.0.0.1"),
        *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
    ]
    return Child("redis", port, command, redis_answers, grace_s=10.0, start_s=START_S)


def _is_whole(child: Child, owners: int) -> bool:
    try:
        with redis.Redis(port=child.port, socket_timeout=5) as node:
            facts = node.cluster("INFO")
    except redis.RedisError:
        return False
    return (facts["cluster_state"], facts["cluster_size"]) == ("ok", str(owners))
