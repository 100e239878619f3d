"""Pods of the component redis-cluster find one another after all have got other addresses: its
script, with processes for pods and addresses of the loopback interface.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

SCRIPT = Path(__file__).parents[2] / "deploy/kubernetes/components/redis-cluster/start-node.sh"
NAMES = ("redis-0", "redis-1", "redis-2")
LIMIT_S = 60.0

pytestmark = [
    pytest.mark.servers("real"),
    pytest.mark.skipif(
        shutil.which("redis-server") is None,
        reason="no redis-server; Debian, Ubuntu: apt install redis-server",
    ),
]


def addresses(net: int) -> dict[str, str]:
    return {name: f"127.0.{net}.{number}" for number, name in enumerate(NAMES, 1)}


def resolve(folder: Path, found: Mapping[str, str]) -> None:
    """Have the pods' `getent hosts` find these addresses by name, and none for other pods."""
    cases = "".join(f"{name}.redis) echo {address} $2;;\n" for name, address in found.items())
    program = folder / "getent"
    written = folder / "getent.new"
    written.write_text(f'#!/bin/sh\ncase "$2" in\n{cases}esac\n')
    written.chmod(0o755)
    written.replace(program)


@contextmanager
def pods(folder: Path, at: Mapping[str, str]) -> Iterator[None]:
    """The script for each pod, with a folder, an address and a loopback interface of its own."""
    with ExitStack() as ends:
        for name, address in at.items():
            data = folder / name
            data.mkdir(exist_ok=True)
            text = (
                SCRIPT.read_text()
                .replace("/data", str(data))
                .replace("port 6379\n", f"port 6379\nbind {address}\n")
                .replace("redis-cli ", f"redis-cli -h {address} ")
            )
            pod = subprocess.Popen(
                ["sh", "-c", text],
                env={
                    "PATH": f"{folder}:{os.environ['PATH']}",
                    "HOSTNAME": name,
                    "POD_IP": address,
                    "REDIS_PASSWORD": "secret",
                },
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            ends.callback(pod.wait)
            ends.callback(os.killpg, pod.pid, 9)
        yield


def client(address: str) -> redis.Redis:
    return redis.Redis(address, 6379, password="secret")


def wait_for_all(at: Mapping[str, str]) -> None:
    """Return when every node knows each one at its address, and that all slots are covered."""

    def knows(address: str) -> bool:
        try:
            with client(address) as node:
                nodes = node.execute_command("CLUSTER NODES")
                state = node.execute_command("CLUSTER INFO")["cluster_state"]
        except redis.RedisError:
            return False
        return state == "ok" and {f"{other}:6379" for other in at.values()} == set(nodes)

    deadline = time.monotonic() + LIMIT_S
    while not all(map(knows, at.values())):
        assert time.monotonic() < deadline, "the nodes did not find one another"
        time.sleep(0.2)


def test_nodes_that_all_moved_find_one_another_though_names_lead_astray_at_first(
    tmp_path: Path,
) -> None:
    before, after = addresses(91), addresses(92)
    resolve(tmp_path, before)
    with pods(tmp_path, before):
        time.sleep(1)
        subprocess.run(
            ["redis-cli", "-a", "secret", "--cluster", "create"]
            + [f"{address}:6379" for address in before.values()]
            + ["--cluster-yes"],
            check=True,
            capture_output=True,
        )
        wait_for_all(before)
    with pods(tmp_path, after):
        time.sleep(1)
        resolve(tmp_path, after)
        wait_for_all(after)
