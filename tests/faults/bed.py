"""The bed of a fault test: a stack with its servers, and further processes of its services."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx
from kafka.errors import KafkaError
from pydantic import SecretStr

from slipstream.broker.topics import ensure_topics, physical
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.services import SERVICES
from slipstream.contracts.topics import CATALOG, INTERACTIONS, PEOPLE, RECOMMENDATIONS
from slipstream_cli.local.plan import EXTERNAL
from tests.buckets import running_bucket
from tests.e2e.stack import Stack, running
from tests.faults.case import Case
from tests.faults.reckoning import Stores
from tests.faults.replicas import FIRST_REPLICA, Launch, replicas
from tests.servers import Outside, Servers, outside
from tests.topics import uncommitted

DEFAULT_NAMESPACE: Final = "slipstream"
# Topics that features commits.
_COMMITTED = (INTERACTIONS, CATALOG, PEOPLE, RECOMMENDATIONS)


class Bed:
    """A running stack and its further processes. `servers` are those of the stack, `partitions` is
    the number of the interactions'.
    """

    def __init__(
        self, stack: Stack, further: Outside, kind: str, lake: LakeSettings, partitions: int
    ) -> None:
        self.stack, self.servers = stack, stack.outside
        self.partitions = partitions
        self._further, self._kind = further, kind
        self._clients = {
            **stack.clients,
            **{
                name: httpx.Client(base_url=f"http://{child.address}", timeout=30)
                for name, child in further.children.items()
            },
        }
        self.stores = Stores(
            KafkaSettings(bootstrap_servers=stack.urls["kafka"]),
            RedisSettings(url=SecretStr(stack.urls["redis"])),
            lake,
            stack.urls["namespace"],
        )

    @property
    def processes(self) -> Mapping[str, int]:
        """The processes that run now, those of the servers too."""
        return {**self.stack.processes, **self._further.pids}

    def urls(self, service: str) -> list[str]:
        """Where the processes of a service answer."""
        return [str(self._clients[name].base_url) for name in self._of(service)]

    def unready(self) -> list[str]:
        """The processes of services that are not ready."""
        return [name for name, client in self._clients.items() if not _is_ready(client)]

    def caught_up(self) -> bool:
        """Whether all that was on the topics has had its effects, and is committed."""
        statuses = [self._clients[name].get("/v1/status") for name in self._of("features")]
        if not all(status.raise_for_status().json()["caught_up"] for status in statuses):
            return False
        if self._kind == "embedded":  # it does not tell what a group has committed
            return True
        names = [physical(self.stores.namespace, topic) for topic in _COMMITTED]
        try:
            return not uncommitted(self.stores.kafka, f"{self.stores.namespace}.features", names)
        except KafkaError:  # a broker that was killed may still be coming back
            return False

    def _of(self, service: str) -> list[str]:
        return [name for name in self._clients if name.split()[0] == service]

    def close(self) -> None:
        """Close the clients of the further processes."""
        for name in self._clients.keys() - self.stack.clients.keys():
            self._clients[name].close()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@contextmanager
def opened(
    case: Case,
    directory: Path,
    servers: Servers,
    launches: Callable[[Stack], Mapping[str, Launch]],
) -> Iterator[Bed]:
    """Open a bed for the block; then all of it is stopped.

    Args:
        case: Its processes, brokers and settings.
        directory: Its folder.
        servers: The kind of its servers, which are its own.
        launches: Tells what differs when further processes start.
    """
    settings = {
        "SLIPSTREAM_TRAINING__NEW_EVENTS": "0",
        # Often enough that processes meet at it.
        "SLIPSTREAM_FEATURES__LAKE_COMPACT_EVERY_S": "5",
        "SLIPSTREAM_FEATURES__LAKE_SMALL_FILES": "4",
        **(FIRST_REPLICA if case.replicas else {}),
        **case.settings,
    }
    with ExitStack() as opening:
        lake = LakeSettings(uri=str(directory / "lake"))
        if case.bucket:
            lake = opening.enter_context(running_bucket())
        settings |= {
            "SLIPSTREAM_LAKE__URI": lake.uri,
            "SLIPSTREAM_LAKE__STORAGE_OPTIONS": json.dumps(lake.storage_options),
        }
        found = opening.enter_context(
            outside(servers, directory / "servers", case.brokers, case.redis, fsync=case.fsync)
        )
        if case.partitions:
            _spread(found.environment, case.partitions)
        stack = opening.enter_context(running(directory, found, **settings))
        further = opening.enter_context(replicas(stack, case.replicas, settings, launches(stack)))
        assert stack.clients.keys() == SERVICES.keys()
        bed = Bed(stack, further, servers.kind, lake, case.partitions or INTERACTIONS.partitions)
        opening.callback(bed.close)
        yield bed


def _spread(environment: Mapping[str, str], partitions: int) -> None:
    """Create the topics that grow with the traffic, with so many partitions."""
    kafka = KafkaSettings(
        bootstrap_servers=environment[EXTERNAL["broker"]],
        replication_factor=int(environment["SLIPSTREAM_KAFKA__REPLICATION_FACTOR"]),
    )
    grown = [replace(topic, partitions=partitions) for topic in (INTERACTIONS, RECOMMENDATIONS)]
    ensure_topics(kafka, DEFAULT_NAMESPACE, grown)
