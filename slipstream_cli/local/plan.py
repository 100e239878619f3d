"""The plan of a local stack: its ports, folders and environment."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING

from slipstream.contracts.services import SERVICES
from slipstream_cli.local.processes import StartError, free_port, is_free

if TYPE_CHECKING:
    from slipstream.chassis.settings import KafkaSettings

DEFAULT_PORTS = {
    **{name: service.port for name, service in SERVICES.items()},
    "broker": 9092,
    "valkey": 6379,
}
# The setting that names an external server instead of the embedded one.
EXTERNAL = {"broker": "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS", "valkey": "SLIPSTREAM_REDIS__URL"}
API_TOKEN = "SLIPSTREAM_HTTP__API_TOKEN"  # noqa: S105
# The variable that names the data folder, and the folder where it names none.
DATA_DIR, DEFAULT_DATA_DIR = "SLIPSTREAM_DATA_DIR", Path(".slipstream")
# The write key of a stack without one in its environment.
DEVELOPMENT_KEY = "dev"


@dataclass(frozen=True)
class Plan:
    """A plan of a local stack.

    Attributes:
        directory: The data folder.
        ports: Ports by name, of the five services and of the servers that are embedded.
        environment: The services' environment.
    """

    directory: Path
    ports: Mapping[str, int]
    environment: Mapping[str, str]

    @property
    def urls(self) -> dict[str, str]:
        """The services' URLs by name."""
        return {name: f"http://127.0.0.1:{self.ports[name]}" for name in SERVICES}

    @property
    def page(self) -> str:
        """The URL of monitoring's console, in words for the terminal."""
        return f"Console: {self.urls['monitoring']}/"

    @property
    def write_key(self) -> str:
        """The first of the write keys that ingestion accepts."""
        return _first_key(self.environment["SLIPSTREAM_INGESTION__WRITE_KEYS"])

    @property
    def servers(self) -> dict[str, str]:
        """The addresses of broker, Redis, lake and database, without passwords."""
        return {
            "broker": self.environment[EXTERNAL["broker"]],
            "redis": _without_password(self.environment[EXTERNAL["valkey"]]),
            "lake": self.environment["SLIPSTREAM_LAKE__URI"],
            "database": _without_password(self.environment["SLIPSTREAM_DATABASE__URL"]),
        }

    @property
    def description(self) -> dict[str, str]:
        """The addresses that other commands need to reach the stack.

        Keys: the services' names (URLs), `kafka`, `redis`, `database`, `lake`, `write_key` and
        `namespace`.
        """
        servers = {
            "kafka": self.environment[EXTERNAL["broker"]],
            "redis": self.environment[EXTERNAL["valkey"]],
            "database": self.environment["SLIPSTREAM_DATABASE__URL"],
            "lake": self.environment["SLIPSTREAM_LAKE__URI"],
        }
        return {**self.urls, **servers, "write_key": self.write_key, "namespace": self.namespace}

    @property
    def namespace(self) -> str:
        """The namespace of the stack's topics, keys and tables."""
        return self.environment.get("SLIPSTREAM_NAMESPACE") or "slipstream"

    @property
    def kafka(self) -> "KafkaSettings":
        """The services' settings of the broker, for commands that make topics on it."""
        from slipstream.chassis.settings import KafkaSettings

        return KafkaSettings.model_validate(
            {
                field: value
                for field in KafkaSettings.model_fields
                if (value := self.environment.get(f"SLIPSTREAM_KAFKA__{field.upper()}"))
            }
        )

    def service_environment(self, name: str) -> dict[str, str]:
        """Return the environment of one service's process."""
        return {**self.environment, "SLIPSTREAM_HTTP__PORT": str(self.ports[name])}

    def credential(self, name: str) -> Callable[[], str]:
        """Return what makes the token that `name` shows to the stack's services; '' for none."""
        from slipstream.chassis.access.tokens import service_credential
        from slipstream.chassis.settings import AccessSettings, HttpSettings, ServiceSettings

        given = {
            field: value
            for field in AccessSettings.model_fields
            if (value := self.environment.get(f"SLIPSTREAM_ACCESS__{field.upper()}"))
        }
        # Constructed, since the environment of this process may differ from that of the services.
        settings = ServiceSettings.model_construct(
            access=AccessSettings.model_validate(given),
            http=HttpSettings.model_validate({"api_token": self.environment.get(API_TOKEN, "")}),
        )
        return service_credential(settings, name)


def make_plan(
    directory: Path,
    environment: Mapping[str, str] | None = None,
    ports: Mapping[str, int] | None = None,
    *,
    any_ports: bool = False,
) -> Plan:
    """Decide the ports and the environment of a local stack.

    Args:
        environment: Settings of the services; by default those of this process. A server that a
            URL in it names is not started.
        ports: Fixed ports by name. The others are the default ones, or the next free ones.
        any_ports: Take any free ports instead of the default ones.

    Raises:
        StartError: A fixed port is in use, or its name is unknown.
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
        # Another one at each start: pages of other origins can't know it.
        "SLIPSTREAM_INGESTION__BROWSER_KEYS": f"page:{token_urlsafe(16)}",
    }
    if "broker" in chosen:
        # The embedded broker holds a group's first join for half of the session timeout, and looks
        # at every partition twice for each fetch.
        settings |= {
            EXTERNAL["broker"]: f"127.0.0.1:{chosen['broker']}",
            "SLIPSTREAM_KAFKA__SESSION_TIMEOUT_MS": "4000",
            "SLIPSTREAM_KAFKA__MAX_PARTITIONS": "3",
        }
    if "valkey" in chosen:
        settings[EXTERNAL["valkey"]] = f"redis://127.0.0.1:{chosen['valkey']}/0"
    peers = {
        f"SLIPSTREAM_PEERS__{name.upper()}_URL": f"http://127.0.0.1:{chosen[name]}"
        for name in SERVICES
    }
    settings |= {k: v for k, v in given.items() if v or k not in settings} | peers
    # The shop of the console sends its events with this key.
    page_key = _first_key(settings["SLIPSTREAM_INGESTION__BROWSER_KEYS"])
    settings["SLIPSTREAM_MONITORING__SHOP_KEY"] = given.get(
        "SLIPSTREAM_MONITORING__SHOP_KEY", page_key
    )
    return Plan(directory, chosen, settings)


def _first_key(entries: str) -> str:
    """The first key of a list of `name:key`."""
    return entries.split(",")[0].partition(":")[2].strip()


def _without_password(url: str) -> str:
    return re.sub(r"(?<=//)([^/@:]*):[^/@]*@", r"\1:***@", url)


def _ports(names: list[str], given: Mapping[str, int], any_ports: bool) -> dict[str, int]:
    for name, port in given.items():
        if name not in names:
            raise StartError(f"nothing named {name} starts here; choose from {', '.join(names)}")
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
