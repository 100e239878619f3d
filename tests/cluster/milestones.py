"""Times of pods by a watch: when a service's new pod was made, ran and was ready, with what its log
says between; and how long the containers of pods ran.

The cluster's own times are whole seconds; these are of this machine's clock, as the pods' are.
"""

import json
import subprocess
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import Any, Self

from tests.cluster.kubectl import NAMESPACE, ClusterError, Kubectl

# Words of serving's log, in the order in which they come.
SAID = {"started": "programs loaded", "model in service": "model in service"}


class Watch:
    """A watch of a service's pods, for the length of the block."""

    def __init__(self, kubectl: Kubectl, app: str) -> None:
        self._kubectl, self._app = kubectl, app

    def __enter__(self) -> Self:
        self._watch = subprocess.Popen(
            [
                *(*self._kubectl.base, "--namespace", NAMESPACE, "get", "pods", "--watch"),
                *("--selector", f"app.kubernetes.io/name={self._app}", "--output", "json"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.kill()
        self._watch.wait()
        self._thread.join()

    def _follow(self) -> None:
        assert self._watch.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        for line in self._watch.stdout:
            text += line
            # Each change is an object over many lines; the last one is a brace alone.
            if line == "}\n":
                pod, text = decoder.decode(text), ""
                self.note(pod)

    def note(self, pod: dict[str, Any]) -> None:
        """Take a pod as it has become."""


class ContainerTimes(Watch):
    """Seconds in which the containers of each pod ran, once they have ended: whole ones, since that
    is how the cluster tells them. A pod that was evicted is not to be asked later.
    """

    def __init__(self, kubectl: Kubectl, app: str) -> None:
        super().__init__(kubectl, app)
        self.seconds: dict[str, float] = {}

    def note(self, pod: dict[str, Any]) -> None:
        for container in pod["status"].get("containerStatuses", ()):
            if ended := container["state"].get("terminated"):
                began, at = (
                    datetime.fromisoformat(ended[name]) for name in ("startedAt", "finishedAt")
                )
                self.seconds[pod["metadata"]["uid"]] = (at - began).total_seconds()


class Milestones(Watch):
    """The way of one pod, for the length of the block."""

    def __init__(self, kubectl: Kubectl, app: str) -> None:
        super().__init__(kubectl, app)
        self._at: dict[str, float] = {}

    def spans(self, began: float, answered_s: float) -> dict[str, float]:
        """Seconds of each stretch of the way, from `began` to the first answer."""
        marks = {
            name: at - began for name, at in sorted(self._at.items(), key=lambda pair: pair[1])
        }
        marks["answered"] = answered_s
        before, found = 0.0, {}
        for name, at in marks.items():
            found[name] = at - before
            before = at
        return found

    def note(self, pod: dict[str, Any]) -> None:
        # A pod of the wake before may still be there.
        if "deletionTimestamp" in pod["metadata"]:
            return
        status = pod["status"]
        self._at.setdefault("pod made", time.time())
        if any("running" in c.get("state", {}) for c in status.get("containerStatuses", ())):
            self._at.setdefault("container runs", time.time())
        conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
        if conditions.get("Ready") == "True" and "ready" not in self._at:
            self._at["ready"] = time.time()
            with suppress(ClusterError):
                self._read_log(pod["metadata"]["name"])

    def _read_log(self, name: str) -> None:
        for line in self._kubectl.run("--namespace", NAMESPACE, "logs", name).splitlines():
            if not line.startswith("{"):
                continue
            said = json.loads(line)
            if said.get("event") in SAID:
                at = datetime.fromisoformat(said["timestamp"]).timestamp()
                self._at.setdefault(SAID[said["event"]], at)
