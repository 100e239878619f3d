"""Further processes of a stack's services, next to the one of each that `slipstream up` runs.

In a cluster they would be more pods of one service. `features 2` is the second process of features.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from slipstream.contracts.services import SERVICES
from slipstream_cli.local.plan import EXTERNAL, make_plan
from slipstream_cli.local.processes import Child
from slipstream_cli.local.readiness import is_ready
from tests.e2e.stack import START_LIMIT_S, Stack
from tests.servers import Outside

# The services that may run more than once, with the processes that the fault test gives them.
SEVERAL = {"features": 3, "ingestion": 2, "serving": 2}
_INSTANCE = "SLIPSTREAM_KAFKA__INSTANCE_ID"
# Of the processes that the supervisor runs: each is the only one of its service there.
FIRST_REPLICA = {_INSTANCE: "replica-1"}
_GRACE_S = 15.0


def process_names(service: str, count: int) -> list[str]:
    """The names of a service's processes: the supervisor's, and the further ones."""
    return [service, *(f"{service} {number}" for number in range(2, count + 1))]


@dataclass(frozen=True)
class Launch:
    """What differs when one process is started: settings, and the words before its command."""

    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()


@contextmanager
def replicas(
    stack: Stack,
    counts: Mapping[str, int],
    settings: Mapping[str, str],
    launches: Mapping[str, Launch],
) -> Iterator[Outside]:
    """Run the further processes for the block: ready, and started again when they die.

    Args:
        stack: The running stack. They share its servers, lake and write key.
        counts: Processes by service, with the supervisor's own one.
        settings: The stack's settings.
        launches: What differs, by the process's name.
    """
    with ExitStack() as opened:
        children = {}
        for service, count in counts.items():
            for name in process_names(service, count)[1:]:
                log = opened.enter_context((stack.directory / f"{name}.log").open("ab"))
                launch = launches.get(name, Launch())
                environment = {**_environment(stack, service, name, settings), **launch.environment}
                children[name] = Child(
                    name,
                    int(environment["SLIPSTREAM_HTTP__PORT"]),
                    [*launch.prefix, sys.executable, "-m", "services", service],
                    is_ready,
                    environment=environment,
                    grace_s=_GRACE_S,
                    start_s=START_LIMIT_S,
                    output=log,
                )
        yield opened.enter_context(Outside({}, children).watched())


def _environment(
    stack: Stack, service: str, name: str, settings: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a process: a port, an instance id and folders of its own, all else as the
    stack has it.
    """
    own = stack.directory / name
    servers = {EXTERNAL["broker"]: stack.urls["kafka"], EXTERNAL["valkey"]: stack.urls["redis"]}
    plan = make_plan(
        stack.directory, {**stack.outside.environment, **servers, **settings}, any_ports=True
    )
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("SLIPSTREAM_")},
        **plan.service_environment(service),
        **{f"SLIPSTREAM_PEERS__{peer.upper()}_URL": stack.urls[peer] for peer in SERVICES},
        "SLIPSTREAM_SERVING__CACHE_DIR": str(own / "cache"),
        _INSTANCE: name.replace(" ", "-"),
    }
