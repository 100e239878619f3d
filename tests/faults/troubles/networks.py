"""A replica of features in a network of its own, which is cut off from the servers for a while.

The whole test runs in a network namespace (`slipstream_cli` and servers as ever, on 127.0.0.1), so
that nothing of it reaches the machine's own. `features 2` has a second one, joined by a pair of
virtual interfaces; what it sends to 127.0.0.1 goes to the first. Packets are dropped in the second.
Needs root, iproute2, util-linux and iptables.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from shutil import which
from typing import Final
from urllib.parse import urlsplit

import redis

from slipstream_cli.local.processes import free_port
from tests.e2e.stack import Stack
from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.replicas import Launch
from tests.faults.trouble import Trouble

CUT_OFF: Final = "features 2"
# Three sessions of 6 s, and longer than any delivery is waited for.
CUT_S: Final = 20.0
OUR_ADDRESS, ITS_ADDRESS = "10.77.0.1", "10.77.0.2"
# Set for a process that is in the namespace of the test already.
INSIDE: Final = "SLIPSTREAM_FAULTS_NETWORK"
REQUESTS, ANSWERS = "requests", "answers"


def enter_own_network(arguments: Sequence[str]) -> None:
    """Restart the command in a network namespace of its own, unless it is in one."""
    if os.environ.get(INSIDE):
        return
    script = 'ip link set lo up && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-m", "tests.faults"]
    os.execvpe(command[0], [*command, *arguments], {**os.environ, INSIDE: "1"})  # noqa: S606


class Networks(Trouble):
    """Packets to and from servers are dropped, both ways or one."""

    strikes = (
        "no redis",
        "no kafka",
        "no redis, no kafka",
        "no answers of redis",
        "no requests to redis",
        "no answers of kafka",
        "no requests to kafka",
    )

    def lacking(self) -> str:
        if os.geteuid() != 0:
            return "only root can make network namespaces: run it as root"
        absent = [name for name in ("ip", "iptables", "unshare", "nsenter") if not which(name)]
        how = "Debian, Ubuntu: apt-get install iproute2 iptables util-linux"
        return f"no {', '.join(absent)}; {how}" if absent else ""

    def surround(self, stack: Stack, opened: ExitStack) -> Mapping[str, Launch]:
        assert os.environ.get(INSIDE), "this runs by `make faults`, in a network of its own"
        self._network = f"slipstream-{os.getpid()}"
        self._ports = {
            "redis": [urlsplit(stack.urls["redis"]).port or 0],
            "kafka": [int(one.rpartition(":")[2]) for one in stack.urls["kafka"].split(",")],
        }
        with redis.Redis.from_url(stack.urls["redis"]) as client:
            client.config_set("protected-mode", "no")  # who comes from elsewhere is let in
        port = free_port()
        _run("ip", "netns", "add", self._network)
        opened.callback(_run, "ip", "netns", "del", self._network)
        _run(
            *["ip", "link", "add", "ours", "type", "veth", "peer", "name", "its", "netns"],
            self._network,
        )
        for inside, interface, address, other in (
            ([], "ours", OUR_ADDRESS, [ITS_ADDRESS, "--dport", str(port)]),
            (self._inside, "its", ITS_ADDRESS, [OUR_ADDRESS]),
        ):
            _run(*inside, "ip", "link", "set", "lo", "up")
            _run(*inside, "ip", "address", "add", f"{address}/30", "dev", interface)
            _run(*inside, "ip", "link", "set", interface, "up")
            # 127.0.0.1 is the other's, over the pair, and the other's packets are for 127.0.0.1.
            _run(*inside, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
            nat = [*inside, "iptables", "-t", "nat", "-A"]
            _run(*nat, *["OUTPUT", "-p", "tcp", "-d", "127.0.0.1"], *other[1:], *_to(other[0]))
            _run(*nat, "POSTROUTING", "-o", interface, "-j", "MASQUERADE")
            _run(*nat, "PREROUTING", "-p", "tcp", "-i", interface, *_to("127.0.0.1"))
        prefix = ("nsenter", f"--net=/run/netns/{self._network}")
        return {CUT_OFF: Launch({"SLIPSTREAM_HTTP__PORT": str(port)}, prefix)}

    @property
    def _inside(self) -> list[str]:
        return ["ip", "netns", "exec", self._network]

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        rules = []
        for server in (server for server in self._ports if server in name):
            for port in map(str, self._ports[server]):
                if ANSWERS not in name:
                    rules.append(["OUTPUT", "-p", "tcp", "--dport", port, "-j", "DROP"])
                if REQUESTS not in name:
                    rules.append(["INPUT", "-p", "tcp", "--sport", port, "-j", "DROP"])
        for rule in rules:
            _run(*self._inside, "iptables", "-I", *rule)
        try:
            time.sleep(CUT_S)
        finally:
            for rule in rules:
                _run(*self._inside, "iptables", "-D", *rule)


def _to(address: str) -> list[str]:
    return ["-j", "DNAT", "--to-destination", address]


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
