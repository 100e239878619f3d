"""Kubernetes Jobs of runs, over the API server's REST interface.

Each Job is made from the `jobTemplate` of a CronJob that is suspended and never runs by itself. So
image, resources, node selector, volumes and `podFailurePolicy` stand in a manifest, where an
overlay patches them (`deploy/kubernetes/components/training-runs`).
"""

import copy
import math
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from services.training.run.launcher import (
    RunFailedError,
    Starter,
    StarterUnavailableError,
    StartState,
    training_run,
)
from services.training.settings import TrainingSection
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.logging import get_logger

log = get_logger(__name__)

CONTAINER: Final = "training-run"
# Kubeflow Trainer 2.3 wants the container of a `trainer` step to have this name.
_TRAINER_CONTAINER: Final = "node"
TRAINER_API: Final = "trainer.kubeflow.org/v1alpha1"
GPU: Final = "nvidia.com/gpu"
QUEUE: Final = "kueue.x-k8s.io/queue-name"
# What is made for a run, the first last, and the label that its pods have with its name.
_MADE: Final = {
    "job": (("batch/v1/jobs",), "batch.kubernetes.io/job-name"),
    "trainjob": (
        (f"{TRAINER_API}/trainjobs", f"{TRAINER_API}/trainingruntimes"),
        "jobset.sigs.k8s.io/jobset-name",
    ),
}
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S: Final = 10.0
# Reasons for which a Job ends, in words.
_REASONS: Final = {
    "BackoffLimitExceeded": "its pods were killed more often than its backoffLimit allows",
    "DeadlineExceeded": "it took longer than its activeDeadlineSeconds",
    "PodFailurePolicy": "its podFailurePolicy ended it",
}


class JobStarter(Starter):
    """Starter of the Jobs, or TrainJobs, of one namespace, one for each run."""

    def __init__(self, client: httpx.Client, namespace: str, section: TrainingSection) -> None:
        self._client, self._section = client, section
        made, self._label = _MADE[section.job_kind]
        self._made = [_path(kind, namespace) for kind in made]
        self._cron_jobs = _path("batch/v1/cronjobs", namespace)
        self._pods = f"/api/v1/namespaces/{namespace}/pods"

    def start(self, run_id: str, uri: str) -> None:
        """Create the run's Job, unless there is one.

        Raises RunFailedError where the API server refuses it.
        """
        job = job_manifest(self._template(), run_id, uri, self._section)
        made = train_job_manifests(job) if self._section.job_kind == "trainjob" else (job,)
        for path, manifest in zip(reversed(self._made), made, strict=True):
            if self._asked("POST", path, json=manifest, expected=(409,)) is not None:
                log.info("created", run_id=run_id, kind=manifest["kind"], name=job_name(run_id))

    def state(self, run_id: str) -> StartState:
        """The state of the run's Job and its pods.

        A refusal is no state: what computes for hours is not ended by a role that lacks a verb.
        """
        selector = {"labelSelector": f"{self._label}={job_name(run_id)}"}
        try:
            job = self._asked("GET", f"{self._made[0]}/{job_name(run_id)}")
            if job is None:
                return StartState(killed="somebody has deleted the Job of the run")
            pods = self._asked("GET", self._pods, params=selector) or {}
        except RunFailedError as error:
            raise StarterUnavailableError(str(error)) from error
        return job_state(job, pods.get("items", []))

    def stop(self, run_id: str) -> None:
        """Delete the run's Job and its pods, if there are any."""
        for path in self._made:
            after = {"propagationPolicy": "Background"}
            self._asked("DELETE", f"{path}/{job_name(run_id)}", params=after)

    def check(self) -> None:
        """Look for what Jobs need, as far as the API server answers now.

        Raises RefusedSettingsError where the cluster lacks it.
        """
        try:
            self._template()
            if self._section.job_kind == "trainjob":
                self._require("JOB_KIND=trainjob", "Kubeflow Trainer 2.3", TRAINER_API)
            if queue := self._section.job_queue:
                self._require(f"JOB_QUEUE={queue}", "Kueue", "kueue.x-k8s.io")
        except StarterUnavailableError as error:
            log.warning("the cluster is not checked", reason=str(error))
        except RunFailedError as error:
            raise RefusedSettingsError(str(error)) from error

    def _require(self, setting: str, component: str, api: str) -> None:
        if self._asked("GET", f"/apis/{api}") is None:
            raise RefusedSettingsError(
                f"SLIPSTREAM_TRAINING__{setting} needs {component}, which this cluster lacks (the "
                f"API {api}): install it, or leave the setting out"
            )

    def _template(self) -> dict[str, Any]:
        name = self._section.job_template
        template = self._asked("GET", f"{self._cron_jobs}/{name}")
        if template is None:
            raise RunFailedError(
                f"there is no CronJob {name} to make the Jobs of runs from: "
                "deploy/kubernetes/components/training-runs brings it"
            )
        return template

    def _asked(
        self, method: str, path: str, *, expected: Sequence[int] = (), **more: Any
    ) -> dict[str, Any] | None:
        """The answer's object; None for 404 and what is expected."""
        try:
            answer = self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise StarterUnavailableError(f"the Kubernetes API: {error}") from error
        status = answer.status_code
        if status in (404, *expected):
            return None
        if status == 429 or status >= 500:
            raise StarterUnavailableError(f"the Kubernetes API: status {status}")
        if status >= 400:
            raise RunFailedError(
                f"the Kubernetes API refuses {method} {path}: {status} {_message(answer)}"
            )
        return dict(answer.json())


def open_jobs(section: TrainingSection) -> JobStarter:
    """The starter of Jobs in the namespace that this pod is in, by its service account.

    Raises RefusedSettingsError outside a pod, in one without the service account's token, and where
    the cluster lacks what the settings ask for.
    """
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}") for name in ("HOST", "PORT"))
    if host is None or not (_SERVICE_ACCOUNT / "token").is_file():
        raise RefusedSettingsError(
            "SLIPSTREAM_TRAINING__LAUNCHER=kubernetes needs a pod with a service account's token "
            "(automountServiceAccountToken)"
        )
    address = f"[{host}]" if ":" in host else host
    client = api_client(
        f"https://{address}:{port or 443}", _SERVICE_ACCOUNT / "token", _SERVICE_ACCOUNT / "ca.crt"
    )
    namespace = (_SERVICE_ACCOUNT / "namespace").read_text().strip()
    starter = JobStarter(client, namespace, section)
    starter.check()
    return starter


def api_client(url: str, token: Path, authority: Path | None = None) -> httpx.Client:
    """A client of the API server.

    Args:
        token: File of the bearer token, read for each request: Kubernetes replaces it every hour.
        authority: File of the certificate authority; None takes the system's.
    """

    def sign(request: httpx.Request) -> None:
        request.headers["Authorization"] = f"Bearer {token.read_text().strip()}"

    trusted = ssl.create_default_context(cafile=str(authority)) if authority else True
    return httpx.Client(
        base_url=url,
        timeout=_TIMEOUT_S,
        verify=trusted,
        trust_env=False,
        event_hooks={"request": [sign]},
    )


def _path(kind: str, namespace: str) -> str:
    """Path of the objects of a kind, such as `batch/v1/jobs`, in a namespace."""
    api, _, plural = kind.rpartition("/")
    return f"/apis/{api}/namespaces/{namespace}/{plural}"


def job_name(run_id: str) -> str:
    """Name of a run's Job."""
    return f"training-run-{run_id}"


def job_manifest(
    template: Mapping[str, Any], run_id: str, uri: str, section: TrainingSection
) -> dict[str, Any]:
    """The Job of a run.

    Args:
        template: CronJob with the `jobTemplate` that it is made from.
        section: Settings of runs: time, device, processes and queue.

    Raises:
        RunFailedError: The template has no container of the name `training-run`.
    """
    made = template["spec"]["jobTemplate"]
    spec = copy.deepcopy(made["spec"])
    pod = spec["template"]["spec"]
    containers = [c for c in pod["containers"] if c["name"] == CONTAINER]
    if not containers:
        raise RunFailedError(
            f"CronJob {template['metadata']['name']} has no container {CONTAINER}, which runs need"
        )
    containers[0]["args"] = training_run(uri, section)
    spec["activeDeadlineSeconds"] = math.ceil(section.run_timeout_s)
    if section.device == "gpu":
        containers[0].setdefault("resources", {}).setdefault("limits", {})[GPU] = section.processes
        taint = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
        pod["tolerations"] = [*pod.get("tolerations", []), taint]
    described = made.get("metadata", {})
    queue = {QUEUE: section.job_queue} if section.job_queue else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(run_id),
            "labels": {**described.get("labels", {}), **queue, "slipstream.dev/run": run_id},
            "annotations": dict(described.get("annotations", {})),
        },
        "spec": spec,
    }


def train_job_manifests(job: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The TrainingRuntime with the Job's pod and arguments, and the TrainJob that refers to it.

    Both have the Job's name. There is no time after which they are deleted: Trainer makes a JobSet
    again that was (kubeflow/trainer#3737), and training deletes both.
    """
    name, labels = job["metadata"]["name"], job["metadata"]["labels"]
    spec = copy.deepcopy(job["spec"])
    spec.pop("ttlSecondsAfterFinished", None)
    for container in spec["template"]["spec"]["containers"]:
        if container["name"] == CONTAINER:
            container["name"] = _TRAINER_CONTAINER
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        if rule.get("onExitCodes", {}).get("containerName") == CONTAINER:
            rule["onExitCodes"]["containerName"] = _TRAINER_CONTAINER
    step = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    runtime = {
        "apiVersion": TRAINER_API,
        "kind": "TrainingRuntime",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "mlPolicy": {"numNodes": 1},
            "template": {
                "spec": {
                    "replicatedJobs": [
                        {
                            "name": "run",
                            "template": {"metadata": {"labels": {**labels, **step}}, "spec": spec},
                        }
                    ]
                }
            },
        },
    }
    train_job = {
        "apiVersion": TRAINER_API,
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "runtimeRef": {
                "apiGroup": TRAINER_API.partition("/")[0],
                "kind": "TrainingRuntime",
                "name": name,
            }
        },
    }
    return runtime, train_job


def job_state(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> StartState:
    """What a Job and its pods say: ended or not, why, or what the run waits for."""
    conditions = {
        condition["type"]: condition
        for condition in job.get("status", {}).get("conditions", [])
        if condition.get("status") == "True"
    }
    if failed := conditions.get("Failed"):
        reason = _REASONS.get(failed.get("reason", ""), failed.get("message", ""))
        killed = "; a pod was killed for want of memory" if any(map(_out_of_memory, pods)) else ""
        return StartState(ended=f"the run's Job failed: {reason}{killed}")
    if "Complete" in conditions:
        return StartState(ended="the run's Job ended without a result")
    if job.get("spec", {}).get("suspend"):  # by Kueue, until it admits the Job, or again
        queue = job["metadata"].get("labels", {}).get(QUEUE)
        cause = f"for its quota in the queue {queue}" if queue else "to be resumed"
        return StartState(waits=f"the suspended Job waits {cause}", held=True)
    return StartState(waits=next(filter(None, map(_waits, pods)), ""))


def _waits(pod: Mapping[str, Any]) -> str:
    """The reason why a pod does not run yet; empty where it does, or has ended."""
    status = pod.get("status", {})
    if status.get("phase") != "Pending":
        return ""
    for container in status.get("containerStatuses", []):
        if waiting := container.get("state", {}).get("waiting"):
            return f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", "not scheduled"))
    return "a pod starts"


def _out_of_memory(pod: Mapping[str, Any]) -> bool:
    return any(
        status.get("state", {}).get("terminated", {}).get("reason") == "OOMKilled"
        for status in pod.get("status", {}).get("containerStatuses", [])
    )


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
