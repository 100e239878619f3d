"""Crashes of containers, one after the other, and how long it takes until all is well again."""

import time
from dataclasses import dataclass
from typing import Any

from tests.compose.project import Project
from tests.e2e.stack import wait_for
from tests.faults.traffic import Event, Sent

PATIENCE_S = 120.0
# Sooner, the engine would take the next crash for one of a container that never came up, and wait
# before it starts it again.
SETTLED_S = 10.0


@dataclass(frozen=True)
class Crash:
    """A container's crash, and seconds after it: until its process ran again, and until all
    containers were healthy.
    """

    container: str
    started_s: float
    healthy_s: float
    # until a new event was applied; only of a features that is alone
    applied_s: float | None = None

    def __str__(self) -> str:
        told = f"runs after {self.started_s:.1f} s, all healthy after {self.healthy_s:.1f} s"
        if self.applied_s is not None:
            told += f", a new event applied after {self.applied_s:.1f} s"
        return f"{'crash of ' + self.container:<32} {told}"


class Crashes:
    """Crashes containers of a project, and remembers them, with the probes that were sent."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.done: list[Crash] = []
        self.probes: list[Sent] = []

    def crash(self, name: str) -> None:
        """Crash a container, and wait until all are healthy again."""
        before = self._project.containers()[name]
        time.sleep(max(0.0, before.started + SETTLED_S - time.time()))
        self._project.crash(name)
        alone = before.service == "features" and len(self._project.replicas("features")) == 1
        applied = self._applied() if alone else None

        def all_healthy() -> bool:
            now = self._project.containers()
            return now[name].started > before.started and all(
                container.healthy for container in now.values()
            )

        wait_for(all_healthy, f"all containers to be healthy after the crash of {name}", PATIENCE_S)
        healthy, now = time.time(), self._project.containers()[name]
        self.done.append(
            Crash(
                name, now.started - now.ended, healthy - now.ended, applied and applied - now.ended
            )
        )

    def _applied(self) -> float:
        """Send an event of a new visitor; when features has applied it."""
        number, at = len(self.probes), time.time_ns() // 1_000_000
        event = Event(f"probe-{number}", f"probe-{number}", "view", "probe", at, None)
        message = {
            "type": "track",
            "messageId": event.event_id,
            "userId": event.user_id,
            "timestamp": at,
        }
        message |= {"event": "Product Viewed", "properties": {"product_id": event.item_id}}
        assert self._project.post("ingestion", "/v1/batch", {"batch": [message]})["accepted"] == 1
        self.probes.append(Sent(message, (event,)))
        wait_for(
            lambda: features_of(self._project, "visitor", event.user_id)["counts"] == {"view": 1},
            "the event to be applied",
            PATIENCE_S,
        )
        return time.time()


def features_of(project: Project, view: str, name: str) -> dict[str, Any]:
    """The features of a visitor or an item."""
    found: dict[str, Any] = project.get("features", f"/v1/features/{view}/{name}")
    return found
