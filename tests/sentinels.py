"""A primary of Redis with two replicas, and three Sentinels that watch them."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from slipstream_cli.local.processes import Child, free_port, start_together
from slipstream_cli.local.servers import START_S, redis_answers, redis_arguments

SERVICE: Final = "shop"
_SERVERS, _SENTINELS, _QUORUM = 3, 3, 2
# Silence after which a Sentinel takes a server for dead.
DOWN_AFTER_MS: Final = 1_000
_FAILOVER_TIMEOUT_MS: Final = 5_000


def sentinel_children(directory: Path) -> dict[str, Child]:
    """The servers by name, not yet started: `redis 1`, the primary at first, and `sentinel 1`, each
    with those behind it. Each has a file of settings, so that it remembers its role.
    """
    ports = [free_port() for _ in range(_SERVERS)]
    children = {}
    for number, port in enumerate(ports, 1):
        settings = "" if number == 1 else f"replicaof 127.0.0.1 {ports[0]}\n"
        place = directory / f"redis-{number}"
        children[f"redis {number}"] = _child(port, place, settings, *redis_arguments(port, place))
    watched = "".join(
        f"sentinel {setting}\n"
        for setting in (
            f"monitor {SERVICE} 127.0.0.1 {ports[0]} {_QUORUM}",
            f"down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"failover-timeout {SERVICE} {_FAILOVER_TIMEOUT_MS}",
        )
    )
    for number in range(1, _SENTINELS + 1):
        port, place = free_port(), directory / f"sentinel-{number}"
        settings = f"port {port}\nbind 127.0.0.1\ndir {place.resolve()}\n{watched}"
        children[f"sentinel {number}"] = _child(port, place, settings, "--sentinel")
    return children


def sentinel_url(children: Mapping[str, Child]) -> str:
    """The URL by which services find the primary."""
    hosts = [child.address for name, child in children.items() if name.startswith("sentinel")]
    return f"redis+sentinel://{','.join(hosts)}/{SERVICE}/0"


def primary(children: Mapping[str, Child]) -> str | None:
    """The name of the server that a Sentinel takes for a living primary; None while it does not."""
    with redis.Redis(port=children["sentinel 1"].port, socket_timeout=5) as sentinel:
        facts = sentinel.sentinel_master(SERVICE)
    if facts["is_sdown"] or facts["is_odown"] or "failover" in str(facts["flags"]):
        return None
    ports = {child.port: name for name, child in children.items()}
    return ports[int(facts["port"])]


def views(children: Mapping[str, Child]) -> dict[str, Any]:
    """What each Sentinel says of the primary and its replicas, for a test that waits in vain."""
    said = {}
    for number in range(1, _SENTINELS + 1):
        with redis.Redis(port=children[f"sentinel {number}"].port, socket_timeout=5) as sentinel:
            said[f"sentinel {number}"] = (
                sentinel.info("sentinel")["sentinel_tilt"],
                sentinel.sentinel_master(SERVICE),
                sentinel.sentinel_slaves(SERVICE),
            )
    return said


def following(children: Mapping[str, Child], port: int) -> None:
    """Have the replicas follow the primary by this port, and return when they do.

    The Sentinels put that right again after eight seconds of a primary that answers.
    """
    for name, child in children.items():
        if not name.startswith("redis"):
            continue
        with redis.Redis(port=child.port) as client:
            if client.info("replication")["role"] == "master":
                continue
            client.replicaof("127.0.0.1", str(port))
            while not _follows(client, port):
                time.sleep(0.02)


def _follows(client: Any, port: int) -> bool:
    facts = client.info("replication")
    return (facts["master_port"], facts["master_link_status"]) == (port, "up")


def settled(children: Mapping[str, Child]) -> bool:
    """Whether every Sentinel knows all others and both replicas, and these follow the primary."""
    name = primary(children)
    if name is None:
        return False
    for number in range(1, _SENTINELS + 1):
        with redis.Redis(port=children[f"sentinel {number}"].port) as sentinel:
            facts = sentinel.sentinel_master(SERVICE)
            known = int(facts["num-other-sentinels"]), int(facts["num-slaves"])
            if known != (_SENTINELS - 1, _SERVERS - 1) or facts["port"] != children[name].port:
                return False
    with redis.Redis(port=children[name].port) as client:
        facts = client.info("replication")
    return (facts["role"], facts["connected_slaves"]) == ("master", _SERVERS - 1)


@contextmanager
def running_sentinels(directory: Path) -> Iterator[dict[str, Child]]:
    """Run them for the block."""
    children = sentinel_children(directory)
    try:
        start_together([*children.values()])
        yield children
    finally:
        for child in children.values():
            child.kill()


def _child(port: int, directory: Path, settings: str, *arguments: str) -> Child:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "redis.conf"
    file.write_text(settings)
    command = [shutil.which("redis-server") or "redis-server", str(file.resolve()), *arguments]
    return Child("redis", port, command, redis_answers, grace_s=10.0, start_s=START_S)
