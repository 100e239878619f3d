"""The bed of the hostile test: servers, and each service under its manifest's memory limit."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from slipstream.contracts.services import SERVICES
from slipstream_cli.local.plan import EXTERNAL, make_plan
from slipstream_cli.local.processes import Child, start_together
from slipstream_cli.local.readiness import is_ready
from tests.deploy.manifests import container
from tests.e2e.stack import START_LIMIT_S
from tests.hostile.memory_group import MemoryGroup, memory_groups
from tests.servers import Servers, database

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
SERVER_KEY, BROWSER_KEY, API_TOKEN = "server-key", "browser-key", "hostile-test-token"
_GRACE_S = 15.0


def memory_limit(service: str) -> int:
    """Bytes of memory that the service's manifest grants its container."""
    limit: str = container(service)["resources"]["limits"]["memory"]
    return int(limit[:-2]) * _UNITS[limit[-2:]]


class Bed:
    """Running services with their memory groups."""

    def __init__(self, children: dict[str, Child], groups: dict[str, MemoryGroup]) -> None:
        self._children, self._groups = children, groups
        self._pids = {
            name: child.process.pid for name, child in children.items() if child.process is not None
        }

    @property
    def ports(self) -> dict[str, int]:
        return {name: child.port for name, child in self._children.items()}

    def alive(self, name: str) -> bool:
        """Whether the process that was started runs, and none of its group was killed."""
        return self._children[name].alive and not self._groups[name].kills

    def limit(self, name: str) -> int:
        return self._groups[name].limit

    def kills(self, name: str) -> int:
        return self._groups[name].kills

    def most_memory(self, name: str) -> int:
        """The most bytes that the process had in memory; 0 once it has ended."""
        try:
            status = Path(f"/proc/{self._pids[name]}/status").read_text()
        except OSError:
            return 0
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0


@contextmanager
def opened(directory: Path, servers: Servers) -> Iterator[Bed]:
    """A stack on `directory` and on servers of its own, for the block; then all is stopped."""
    with ExitStack() as stack:
        url = stack.enter_context(database(servers, directory))
        broker, redis = servers.broker(directory / "broker"), servers.redis(directory / "redis")
        for child in (broker, redis):
            stack.callback(child.kill)
        start_together([broker, redis])
        plan = make_plan(
            directory,
            {
                EXTERNAL["broker"]: broker.address,
                EXTERNAL["valkey"]: f"redis://{redis.address}/0",
                "SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS": str(servers.session_timeout_ms),
                "SLIPSTREAM_DATABASE__URL": url,
                "SLIPSTREAM_INGESTION__WRITE_KEYS": f"shop:{SERVER_KEY}",
                "SLIPSTREAM_INGESTION__BROWSER_KEYS": f"pages:{BROWSER_KEY}",
                "SLIPSTREAM_HTTP__API_TOKEN": API_TOKEN,
            },
            any_ports=True,
        )
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLIPSTREAM_")}
        groups = stack.enter_context(memory_groups({name: memory_limit(name) for name in SERVICES}))
        children: dict[str, Child] = {}
        for name in SERVICES:
            log = stack.enter_context((directory / f"{name}.log").open("wb"))
            children[name] = Child(
                name,
                plan.ports[name],
                [*groups[name].prefix(), sys.executable, "-m", "services", name],
                is_ready,
                environment={**inherited, **plan.service_environment(name)},
                grace_s=_GRACE_S,
                start_s=START_LIMIT_S,
                output=log,
            )
            stack.callback(children[name].stop)
        start_together(list(children.values()))
        yield Bed(children, groups)
