"""kubectl, as the one way to the cluster, and a pod as the cluster tells of it."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.e2e.stack import wait_for

NAMESPACE = "slipstream"
COMMAND_LIMIT_S = 120.0
PAUSE_S = 0.5


class ClusterError(RuntimeError):
    """kubectl or another program refuses a command; the text says why."""


@dataclass(frozen=True)
class Pod:
    """A pod as the cluster tells of it now. Times are seconds since the epoch."""

    name: str
    app: str
    uid: str
    ready: bool
    stopping: bool
    restarts: int
    created: float
    ready_at: float
    image: str
    address: str
    # of the container: what it asks for and is held to, in milli-cores and bytes
    requests: dict[str, int]
    limits: dict[str, int]
    # why its containers ended, if any did
    ends: tuple[str, ...]
    # made by a Job, which makes another one when it fails, or by a workflow
    of_job: bool


class Kubectl:
    """kubectl with a configuration of its own; every command is bounded in time."""

    def __init__(self, kubeconfig: str) -> None:
        self.base = ("kubectl", f"--kubeconfig={kubeconfig}")

    def run(
        self, *arguments: str, given: str | None = None, limit_s: float = COMMAND_LIMIT_S
    ) -> str:
        """The output of a command that succeeds. `given` goes to its input."""
        return self.run_bytes(*arguments, given=given, limit_s=limit_s).decode()

    def run_bytes(
        self, *arguments: str, given: str | None = None, limit_s: float = COMMAND_LIMIT_S
    ) -> bytes:
        """The same, undecoded."""
        try:
            done = subprocess.run(
                [*self.base, *arguments],
                input=given.encode() if given is not None else None,
                capture_output=True,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"kubectl {' '.join(arguments)}: not in {limit_s:.0f} s") from error
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.decode().strip()}")
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create objects, or change them; what is refused is an error."""
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.run("apply", "-f", "-", given=json.dumps(listed))

    def get(self, *arguments: str, namespace: str = NAMESPACE) -> dict[str, Any]:
        """An object or a list, from JSON."""
        found: dict[str, Any] = json.loads(
            self.run("--namespace", namespace, "get", *arguments, "-o", "json")
        )
        return found

    def delete(self, *arguments: str, namespace: str = NAMESPACE) -> None:
        """Delete an object, if it is there."""
        self.run("--namespace", namespace, "delete", "--ignore-not-found", *arguments)

    def pods(self, namespace: str = NAMESPACE) -> list[Pod]:
        """Pods by name, but for those that have done their work."""
        items = self.get("pods", namespace=namespace)["items"]
        return sorted(
            (_pod(item) for item in items if item["status"].get("phase") != "Succeeded"),
            key=lambda pod: pod.name,
        )

    def of(self, app: str) -> list[Pod]:
        """Pods of a service or server that are not stopping."""
        return [pod for pod in self.pods() if pod.app == app and not pod.stopping]

    def execute(
        self, pod: str, *command: str, namespace: str = NAMESPACE, limit_s: float = COMMAND_LIMIT_S
    ) -> bytes:
        """The output of a command in a pod's container."""
        return self.run_bytes(
            "--namespace", namespace, "exec", pod, "--", *command, limit_s=limit_s
        )

    def service_address(self, service: str) -> str:
        """The address of a Service inside the cluster. Names with dots are not among the hosts that
        a service answers to, unless its settings list them; addresses are.
        """
        spec = self.get("service", service)["spec"]
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


def wait_until(condition: Callable[[], object], what: str, limit_s: float) -> None:
    """Wait until a condition holds, with a pause between looks: each is a process of kubectl, or
    work for a service, on the processors that the pods need.
    """

    def look() -> bool:
        time.sleep(PAUSE_S)
        return bool(condition())

    wait_for(look, what, limit_s)


def quantity(text: str) -> int:
    """Kubernetes' quantity in milli-cores ("250m", "2") or bytes ("128Mi")."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    if text[-2:] in units:
        return int(float(text[:-2]) * units[text[-2:]])
    if text.endswith("n"):
        return int(text[:-1]) // 1_000_000
    if text.endswith("u"):
        return int(text[:-1]) // 1_000
    return int(text[:-1]) if text.endswith("m") else int(float(text) * 1_000)


def _pod(item: dict[str, Any]) -> Pod:
    metadata, status = item["metadata"], item["status"]
    containers = status.get("containerStatuses", [])
    (first, *_) = item["spec"]["containers"]
    ready = [c for c in status.get("conditions", []) if c["type"] == "Ready"]
    resources = first.get("resources", {})
    return Pod(
        metadata["name"],
        metadata.get("labels", {}).get("app.kubernetes.io/name", ""),
        metadata["uid"],
        any(c["status"] == "True" for c in ready),
        "deletionTimestamp" in metadata,
        sum(c["restartCount"] for c in containers),
        _seconds(metadata["creationTimestamp"]),
        max((_seconds(c["lastTransitionTime"]) for c in ready), default=0.0),
        first["image"],
        status.get("podIP", ""),
        {name: quantity(text) for name, text in resources.get("requests", {}).items()},
        {name: quantity(text) for name, text in resources.get("limits", {}).items()},
        tuple(_ends(containers)),
        any(owner["kind"] in ("Job", "Workflow") for owner in metadata.get("ownerReferences", ())),
    )


def _ends(containers: Sequence[dict[str, Any]]) -> Iterator[str]:
    for container in containers:
        for state in (container.get("state", {}), container.get("lastState", {})):
            if "terminated" in state:
                yield state["terminated"].get("reason", "")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
