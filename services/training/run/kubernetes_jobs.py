"""Kubernetes Jobs of runs, over the API server's REST interface.

Each Job is made from the `jobTemplate` of a CronJob that is suspended and never runs by itself. So
image, resources, node selector, volumes and `podFailurePolicy` stand in a manifest, where an
overlay patches them (`deploy/kubernetes/components/training-jobs`).
"""

import copy
import math
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from services.training.run.launcher import RunFailedError, StarterUnavailableError, StartState
from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.logging import get_logger

log = get_logger(__name__)

CONTAINER: Final = "training-run"
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S: Final = 10.0
# Reasons for which a Job ends, in words.
_REASONS: Final = {
    "BackoffLimitExceeded": "its pods were killed more often than its backoffLimit allows",
    "DeadlineExceeded": "it took longer than its activeDeadlineSeconds",
    "PodFailurePolicy": "its podFailurePolicy ended it",
}


class KubernetesJobs:
    """Jobs of one namespace, one for each run.

    Args:
        client: Client of the API server.
        namespace: The namespace.
        template: Name of the CronJob.
        timeout_s: Seconds after which Kubernetes ends a Job.
    """

    local = False

    def __init__(
        self, client: httpx.Client, namespace: str, template: str, timeout_s: float
    ) -> None:
        self._client, self._template, self._timeout_s = client, template, timeout_s
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._cron_jobs = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"

    def start(self, run_id: str, uri: str) -> None:
        """Create the run's Job, unless there is one.

        Raises RunFailedError where the API server refuses it.
        """
        template = self._asked("GET", f"{self._cron_jobs}/{self._template}")
        if template is None:
            raise RunFailedError(
                f"there is no CronJob {self._template} to make the run's Job from: "
                "deploy/kubernetes/components/training-jobs brings it"
            )
        job = job_manifest(template, run_id, uri, self._timeout_s)
        if self._asked("POST", self._jobs, json=job, expected=(409,)) is not None:
            log.info("job created", run_id=run_id, job=job["metadata"]["name"])

    def state(self, run_id: str) -> StartState:
        """The state of the run's Job and its pods.

        A refusal is no state: what computes for hours is not ended by a role that lacks a verb.
        """
        selector = {"labelSelector": f"batch.kubernetes.io/job-name={job_name(run_id)}"}
        try:
            job = self._asked("GET", f"{self._jobs}/{job_name(run_id)}")
            if job is None:
                return StartState(killed="somebody has deleted the Job of the run")
            pods = self._asked("GET", self._pods, params=selector) or {}
        except RunFailedError as error:
            raise StarterUnavailableError(str(error)) from error
        return job_state(job, pods.get("items", []))

    def stop(self, run_id: str) -> None:
        """Delete the run's Job and its pods, if there are any."""
        path = f"{self._jobs}/{job_name(run_id)}"
        self._asked("DELETE", path, params={"propagationPolicy": "Background"})

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


def open_jobs(template: str, timeout_s: float) -> KubernetesJobs:
    """The Jobs of the namespace that this pod is in, by its service account.

    Raises RefusedSettingsError outside a pod, and in one without the service account's token.
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
    return KubernetesJobs(client, namespace, template, timeout_s)


def api_client(url: str, token: Path, authority: Path | None = None) -> httpx.Client:
    """A client of the API server.

    Args:
        url: Address of the API server.
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


def job_name(run_id: str) -> str:
    """Name of a run's Job."""
    return f"training-run-{run_id}"


def job_manifest(
    template: Mapping[str, Any], run_id: str, uri: str, timeout_s: float
) -> dict[str, Any]:
    """The Job of a run.

    Args:
        template: CronJob with the `jobTemplate` that it is made from.
        run_id: The run.
        uri: Where its files are.
        timeout_s: Seconds after which Kubernetes ends it.

    Raises:
        RunFailedError: The template has no container of the name `training-run`.
    """
    made = template["spec"]["jobTemplate"]
    spec = copy.deepcopy(made["spec"])
    containers = [c for c in spec["template"]["spec"]["containers"] if c["name"] == CONTAINER]
    if not containers:
        raise RunFailedError(
            f"CronJob {template['metadata']['name']} has no container {CONTAINER}, which runs need"
        )
    containers[0]["args"] = ["training-run", "--job", uri]
    spec["activeDeadlineSeconds"] = math.ceil(timeout_s)
    described = made.get("metadata", {})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(run_id),
            "labels": {**described.get("labels", {}), "slipstream.dev/run": run_id},
            "annotations": dict(described.get("annotations", {})),
        },
        "spec": spec,
    }


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
