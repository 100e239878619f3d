"""Pods that send load from a namespace of their own, as clients of the shop would."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.cluster.forwarding import TOKEN, WRITE_KEY
from tests.cluster.kubectl import ClusterError, Kubectl, wait_until
from tests.cluster.load.signals import KEPT_S, RESULT, STOP
from tests.cluster.overlay import image
from tests.faults.traffic import Event, Sent

# The namespaces of clients, whom NetworkPolicies let in, and of others, whom they do not.
CLIENTS, STRANGERS = "slipstream-clients", "slipstream-strangers"
ROOT = Path(__file__).parents[3]
# What the programs import of this repository. The image has the packages of the services.
FILES = (
    "tests/cluster/load/signals.py",
    "tests/cluster/load/events.py",
    "tests/cluster/load/questions.py",
    "tests/faults/client.py",
    "tests/faults/traffic.py",
)
# Where a pod has the programs.
PROGRAMS = "/programs"
START_LIMIT_S = 90.0
# Longer than the client's own patience with the last messages.
RESULT_LIMIT_S = 240.0
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Answer:
    """One answer of serving: `status` is 0 for a broken connection. Of a failure, `version` tells
    the kind.
    """

    at_ms: int
    visitor: str
    status: int
    took_ms: float
    version: str | None
    items: tuple[str, ...]


@dataclass(frozen=True)
class SentEvents:
    """What a pod of events had acknowledged, and what never was."""

    acknowledged: list[Sent]
    unacknowledged: list[Sent]
    rejected: list[str]
    figures: Counter[str]

    @property
    def failed(self) -> int:
        """Requests that had to be sent again, except those with an answer that was thrown away."""
        return self.figures["retried_requests"] - self.figures["answers_lost"]


class LoadPod:
    """A pod that a program of load runs in."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self._kubectl, self._name = kubectl, name

    def stop(self) -> Any:
        """Stop it, and fetch what it saw."""
        self._execute("python", "-c", f"open('{STOP}', 'w').close()")
        wait_until(self._done, f"the result of {self._name}", RESULT_LIMIT_S)
        return orjson.loads(self._execute("cat", RESULT))

    def _done(self) -> bool:
        (pod,) = [pod for pod in self._kubectl.pods(CLIENTS) if pod.name == self._name]
        if pod.ends:
            told = self._kubectl.run("--namespace", CLIENTS, "logs", self._name, "--tail=5")
            raise ClusterError(f"{self._name} ended: {', '.join(pod.ends)}: {told}")
        return b"True" in self._execute(
            "python", "-c", f"import os; print(os.path.exists('{RESULT}'))"
        )

    def _execute(self, *command: str) -> bytes:
        return self._kubectl.execute(self._name, *command, namespace=CLIENTS)


class EventsPod(LoadPod):
    def result(self) -> SentEvents:
        return read_events(self.stop())


class QuestionsPod(LoadPod):
    def result(self) -> list[Answer]:
        return read_answers(self.stop())


def read_events(handed: dict[str, Any]) -> SentEvents:
    """What `tests.cluster.load.events` hands over."""

    def sent(messages: list[list[list[Any]]]) -> list[Sent]:
        return [Sent({}, tuple(Event(*event) for event in events)) for events in messages]

    return SentEvents(
        sent(handed["acknowledged"]),
        sent(handed["unacknowledged"]),
        handed["rejected"],
        Counter(handed["figures"]),
    )


def read_answers(handed: list[list[Any]]) -> list[Answer]:
    """What `tests.cluster.load.questions` hands over."""
    return [
        Answer(at, visitor, status, took, version, tuple(items))
        for at, visitor, status, took, version, items in handed
    ]


@contextmanager
def events(kubectl: Kubectl, tag: str, name: str, rate: float, seed: int) -> Iterator[EventsPod]:
    """Load on ingestion for the length of the block: `rate` events a second."""
    settings = {"WRITE_KEY": WRITE_KEY, "SEED": str(seed), "RATE": str(rate), "NAME": name}
    with _program(kubectl, tag, f"events-{name}", "events", "ingestion", settings):
        yield EventsPod(kubectl, f"events-{name}")


@contextmanager
def questions(
    kubectl: Kubectl,
    tag: str,
    name: str,
    *,
    rate: float,
    visitors: int = 200,
    threads: int = 8,
) -> Iterator[QuestionsPod]:
    """Load on serving for the length of the block.

    Args:
        kubectl: The cluster.
        tag: Of the image that it runs in.
        name: Of this load.
        rate: Requests a second; 0 for as many as are answered.
        visitors: The number of visitors: u0, u1, ….
        threads: Requests under way at once, at most.
    """
    settings = {
        "TOKEN": TOKEN,
        "RATE": str(rate),
        "VISITORS": str(visitors),
        "THREADS": str(threads),
    }
    with _program(kubectl, tag, f"questions-{name}", "questions", "serving", settings):
        yield QuestionsPod(kubectl, f"questions-{name}")


@contextmanager
def idle(kubectl: Kubectl, tag: str, namespace: str, name: str) -> Iterator[None]:
    """A pod that does nothing, for commands in it."""
    command = ["python", "-c", f"import time; time.sleep({KEPT_S})"]
    with _running(kubectl, namespace, name, _container(tag, command, {})):
        yield


def make_namespaces(kubectl: Kubectl) -> None:
    """The namespaces, and the programs for the clients."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply(
        *(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": restricted | labels},
            }
            for name, labels in ((CLIENTS, {"slipstream/client": "true"}), (STRANGERS, {}))
        ),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "programs", "namespace": CLIENTS},
            "data": {_key(file): (ROOT / file).read_text() for file in FILES},
        },
    )


@contextmanager
def _program(
    kubectl: Kubectl, tag: str, name: str, program: str, service: str, settings: dict[str, str]
) -> Iterator[None]:
    environment = {**settings, "URL": kubectl.service_address(service), "PYTHONPATH": PROGRAMS}
    container = _container(tag, ["python", "-m", f"tests.cluster.load.{program}"], environment)
    container["volumeMounts"].append({"name": "programs", "mountPath": PROGRAMS})
    files = {"name": "programs", "items": [{"key": _key(file), "path": file} for file in FILES]}
    with _running(kubectl, CLIENTS, name, container, {"name": "programs", "configMap": files}):
        yield


def _container(tag: str, command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    return {
        "name": "load",
        "image": image("ingestion", tag),
        "command": command,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": {
            "requests": {"cpu": "200m", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the pod's own
    }


@contextmanager
def _running(
    kubectl: Kubectl,
    namespace: str,
    name: str,
    container: dict[str, Any],
    *volumes: dict[str, Any],
) -> Iterator[None]:
    """A pod for the length of the block, within PodSecurity "restricted"."""
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "restartPolicy": "Never",
                "securityContext": POD_SECURITY,
                "terminationGracePeriodSeconds": 0,
                "containers": [container],
                "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
            },
        }
    )
    try:
        wait_until(
            lambda: any(pod.name == name and pod.ready for pod in kubectl.pods(namespace)),
            f"the pod {name}",
            START_LIMIT_S,
        )
        yield
    finally:
        kubectl.delete("pod", name, "--wait=false", namespace=namespace)


def _key(file: str) -> str:
    return file.replace("/", "-")
