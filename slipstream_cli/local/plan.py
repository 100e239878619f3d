"""Where everything of a local stack is: ports, folders, and the environment that tells the
services.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipstream.contracts.services import SERVICES
from slipstream_cli.local.processes import StartError, free_port, is_free

DEFAULT_PORTS = {
    **{name: service.port for name, service in SERVICES.items()},
    "broker": 9092,
    "valkey": 6379,
}
# The setting that names an external server instead of the embedded one.
EXTERNAL = {"broker": "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS", "valkey": "SLIPSTREAM_REDIS__URL"}
# The variable that names the data folder, and the folder where it names none.
DATA_DIR, DEFAULT_DATA_DIR = "SLIPSTREAM_DATA_DIR", Path(".slipstream")
# The write key of a stack that was not told one.
DEVELOPMENT_KEY = "dev"


@dataclass(frozen=True)
class Plan:
    """A local stack before it runs. `ports` names what runs here: the five services and the
    embedded servers.
    """

    directory: Path
    ports: Mapping[str, int]
    environment: Mapping[str, str]

    @property
    def urls(self) -> dict[str, str]:
        """Where each service answers."""
        return {name: f"http://127.0.0.1:{self.ports[name]}" for name in SERVICES}

    @property
    def write_key(self) -> str:
        """A key that ingestion accepts: the first that it was given."""
        first = self.environment["SLIPSTREAM_INGESTION__WRITE_KEYS"].split(",")[0]
        return first.partition(":")[2].strip()

    @property
    def description(self) -> dict[str, str]:
        """What other commands need to reach it: the services' URLs by name, `write_key`, `kafka`,
        `redis` and `namespace`.
        """
        servers = {
            "kafka": self.environment[EXTERNAL["broker"]],
            "redis": self.environment[EXTERNAL["valkey"]],
        }
        namespace = self.environment.get("SLIPSTREAM_NAMESPACE") or "slipstream"
        return {**self.urls, **servers, "write_key": self.write_key, "namespace": namespace}

    def service_environment(self, name: str) -> dict[str, str]:
        """The environment of one service's process."""
        return {**self.environment, "SLIPSTREAM_HTTP__PORT": str(self.ports[name])}


def make_plan(
    directory: Path,
    environment: Mapping[str, str] | None = None,
    ports: Mapping[str, int] | None = None,
    *,
    any_ports: bool = False,
) -> Plan:
    """Decide the ports and the environment of a stack that keeps its data in `directory`.

    A server that a URL in `environment` (this process's own, by default) names is not started here.
    A default port that is taken gives way to the next free one; one given in `ports` does not:
    StartError. `any_ports` takes whatever is free.
    """
    given = dict(os.environ if environment is None else environment)
    directory = directory.resolve()
    chosen = _ports(
        [name for name in DEFAULT_PORTS if name not in EXTERNAL or not given.get(EXTERNAL[name])],
        ports or {},
        any_ports,
    )
    settings = {
        "SLIPSTREAM_DATABASE__URL": f"sqlite:///{directory / 'metadata.db'}",
        "SLIPSTREAM_LAKE__URI": str(directory / "lake"),
        "SLIPSTREAM_ARTIFACTS__DIRECTORY": str(directory / "models"),
        "SLIPSTREAM_SERVING__CACHE_DIR": str(directory / "serving"),
        "SLIPSTREAM_INGESTION__WRITE_KEYS": f"dev:{DEVELOPMENT_KEY}",
    }
    if "broker" in chosen:
        # The embedded broker holds a group's first join for half of the session timeout.
        settings |= {
            EXTERNAL["broker"]: f"127.0.0.1:{chosen['broker']}",
            "SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS": "4000",
        }
    if "valkey" in chosen:
        settings[EXTERNAL["valkey"]] = f"redis://127.0.0.1:{chosen['valkey']}/0"
    peers = {
        f"SLIPSTREAM_PEERS__{name.upper()}_URL": f"http://127.0.0.1:{chosen[name]}"
        for name in SERVICES
    }
    return Plan(
        directory,
        chosen,
        {**settings, **{k: v for k, v in given.items() if v or k not in settings}, **peers},
    )


def _ports(names: list[str], given: Mapping[str, int], any_ports: bool) -> dict[str, int]:
    for name, port in given.items():
        if name not in names:
            raise StartError(f"{name} has no port here; there are: {', '.join(names)}")
        if not is_free(port):
            raise StartError(f"{name} can't start: port {port} is in use")
    chosen = dict(given)
    for name in names:
        if name in chosen:
            continue
        port = free_port() if any_ports else DEFAULT_PORTS[name]
        others = (
            {DEFAULT_PORTS[other] for other in names if other != name and other not in given}
            if not any_ports
            else set()
        )
        while port in chosen.values() or port in others or not is_free(port):
            port = free_port() if any_ports else port + 1
        chosen[name] = port
    return {name: chosen[name] for name in names}
