"""Memory and processor of the pods over the whole demo, from the cluster's metrics API, and how
their containers ended.
"""

import json
import threading
from collections import defaultdict
from dataclasses import dataclass, field

from tests.cluster.kubectl import NAMESPACE, ClusterError, Kubectl, quantity

EVERY_S = 5.0
METRICS = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods"
OUT_OF_MEMORY = "OOMKilled"


@dataclass
class Peak:
    """The most that a pod of a service or server used, and what it may use: bytes, milli-cores."""

    memory: int = 0
    cpu: int = 0
    cpu_sum: int = 0
    samples: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)

    @property
    def cpu_mean(self) -> float:
        return self.cpu_sum / max(1, self.samples)


class Usage:
    """Samples from `start` to `stop`, in a thread. A sample that fails is left out."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.peaks: dict[str, Peak] = defaultdict(Peak)
        self.killed_for_memory: set[str] = set()
        self.samples = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(EVERY_S):
            try:
                self._sample()
            except ClusterError:
                continue

    def _sample(self) -> None:
        pods = {pod.name: pod for pod in self._kubectl.pods()}
        for pod in pods.values():
            if OUT_OF_MEMORY in pod.ends:
                self.killed_for_memory.add(pod.name)
            if pod.app and not pod.of_job:
                peak = self.peaks[pod.app]
                peak.requests, peak.limits = pod.requests, pod.limits
        for item in json.loads(self._kubectl.run("get", "--raw", METRICS))["items"]:
            found = pods.get(item["metadata"]["name"])
            if found is None or found.app not in self.peaks:
                continue
            peak = self.peaks[found.app]
            used = [container["usage"] for container in item["containers"]]
            cpu = sum(quantity(usage["cpu"]) for usage in used)
            peak.memory = max(peak.memory, sum(quantity(usage["memory"]) for usage in used))
            peak.cpu, peak.cpu_sum = max(peak.cpu, cpu), peak.cpu_sum + cpu
            peak.samples += 1
        self.samples += 1
