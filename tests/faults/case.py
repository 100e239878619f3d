"""A fault test's parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipstream.contracts.services import SERVICES
from tests.faults.replicas import process_names
from tests.servers import RedisKind

# Those of a cluster, of which each kill takes one.
BROKER = "broker"


@dataclass(frozen=True)
class Case:
    """`kills` of each process within `seconds`, under `rate` events a second. Everything follows
    from the seed but the machine's own timing.

    Attributes:
        kills: How often each of them is killed: every process of a service, `redis`, `postgresql`,
            `broker`. With several `brokers`, that is one that leads a partition of the
            interactions, each in turn; with Sentinels, `redis` is the primary of the moment, and of
            a cluster one of its nodes, each in turn.
        replicas: Processes by service; one of those that are not named.
        pauses_s: What was killed may start again after one of these.
        trouble: What befalls the stack instead of the kills (`tests.faults.troubles`).
        strikes: How many of its strikes, from the first; None: all.
        partitions: Those of the interactions and the slates; None: as they are declared.
        bucket: Whether the lake is in a bucket of S3.
        redis: One Redis, one with replicas that Sentinels promote, or a cluster of three nodes.
        fsync: `appendfsync` of a cluster's nodes.
        beside: The commit of the other version, where two run side by side.
    """

    seconds: float
    kills: Mapping[str, int]
    rate: float = 300.0
    seed: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    brokers: int = 1
    replicas: Mapping[str, int] = field(default_factory=dict)
    pauses_s: tuple[float, ...] = (0.0,)
    trouble: str = ""
    strikes: int | None = None
    beside: str = ""
    partitions: int | None = None
    bucket: bool = False
    redis: RedisKind = RedisKind.SINGLE
    fsync: str = "always"

    @property
    def limit_s(self) -> float:
        """How long events come at most, since kills may be late, and troubles take their time."""
        return self.seconds + 1_200 if self.trouble else 2 * self.seconds

    def processes(self, service: str) -> list[str]:
        """The names of a service's processes."""
        return process_names(service, self.replicas.get(service, 1))

    @property
    def kills_of_processes(self) -> dict[str, int]:
        """`kills`, with each process of a service."""
        return {
            process: times
            for name, times in self.kills.items()
            for process in (self.processes(name) if name in SERVICES else [name])
        }
