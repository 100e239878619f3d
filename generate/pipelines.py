"""The tasks of a training run as a pipeline, and the pipeline for Argo Workflows.

A task is a command of `slipstream runs`, which asks and computes nothing. The key of the run makes
repeats harmless, so engines keep no results of their own. `python -m generate.pipelines` prints the
tasks as JSON, which `kubeflow.py` reads in the environment of Kubeflow's compiler.
"""

import json
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, NamedTuple

from generate.manifests import manifest
from slipstream.contracts.services import SERVICES
from slipstream.contracts.steps import STEPS

ARGO: Final = "deploy/kubernetes/components/argo-pipeline/pipeline.yaml"
KUBEFLOW: Final = "deploy/pipelines/kubeflow.yaml"
_STEPS_FILE: Final = "slipstream/contracts/steps.py"
NAME: Final = "slipstream-pipeline"
# Kustomize sets the tag in Argo's; Kubeflow's has that of the release.
IMAGE: Final = "slipstream/training"
# Statuses after which the same command would end in the same way.
FINAL: Final = (2, 3, 4, 6)
RETRIES: Final = 5
# Environment of each task: the services that its command asks.
URLS: Final = {
    f"SLIPSTREAM_PEERS__{name.upper()}_URL": f"http://{name}:{SERVICES[name].port}"
    for name in ("training", "serving", "monitoring")
}
_ENV: Final = [{"name": name, "value": url} for name, url in URLS.items()]
_TOKEN: Final[dict[str, Any]] = {
    "name": "SLIPSTREAM_HTTP__API_TOKEN",
    "valueFrom": {"secretKeyRef": {"name": "slipstream-secrets", "key": "http-api-token"}},
}
_UNPRIVILEGED: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
_CPU, _MEMORY, _MEMORY_LIMIT = "100m", "100Mi", "200Mi"


class Task(NamedTuple):
    """A command of a pipeline.

    Attributes:
        name: Name of the task.
        words: The command's words; `{key}`, `{profile}` and `{minutes}` stand for parameters of the
            pipeline.
        outputs: Outputs of the command that the engine gets, as text.
        if_promoted: Whether it is left out where the gate refuses.
    """

    name: str
    words: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    if_promoted: bool = False


def tasks() -> tuple[Task, ...]:
    """The tasks in their order: the run's start, each of its steps, and the watch afterwards."""
    start = ("runs", "start", "--key", "{key}", "--profile", "{profile}")
    gate = [kind.name for kind in STEPS].index("gate")
    return (
        Task("start", start),
        *(
            Task(
                kind.name, ("runs", "follow", "{key}", "--until", kind.name), kind.outputs, n > gate
            )
            for n, kind in enumerate(STEPS)
        ),
        Task("watch", ("runs", "watch", "{key}", "--minutes", "{minutes}"), (), if_promoted=True),
    )


def arguments(task: Task, parameters: Mapping[str, str], files: Mapping[str, str]) -> list[str]:
    """The command's words, with an engine's values.

    Args:
        files: File of each output of the task.
    """
    words = [parameters.get(word.strip("{}"), word) for word in task.words]
    for name in task.outputs:
        words += ["--output", f"{name}={files[name]}"]
    return words


def argo_pipeline() -> dict[str, str]:
    """Text of Argo's pipeline, by path in the repository."""
    return {ARGO: manifest(_STEPS_FILE, argo())}


def argo() -> list[dict[str, Any]]:
    """The WorkflowTemplate and the CronWorkflow for Argo Workflows 4.0."""
    listed, steps = tasks(), list[dict[str, Any]]()
    for before, task in zip((None, *listed), listed, strict=False):
        step: dict[str, Any] = {"name": task.name, "template": task.name}
        if before is not None:
            step["depends"] = f"{before.name}.Succeeded"
        if task.if_promoted:
            step["when"] = "'{{tasks.gate.outputs.parameters.decision}}' == 'promoted'"
        steps.append(step)
    decision = "{{tasks.gate.outputs.parameters.decision}}"
    main = {
        "name": "pipeline",
        "outputs": {"parameters": [{"name": "decision", "valueFrom": {"parameter": decision}}]},
        "dag": {"tasks": steps},
    }
    spec = {
        "entrypoint": main["name"],
        "serviceAccountName": NAME,
        "podMetadata": {"labels": {"app.kubernetes.io/name": NAME}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # Argo's own containers, which a namespace under PodSecurity `restricted` takes only so.
        "podSpecPatch": json.dumps(
            {
                kind: [{"name": name, "securityContext": _UNPRIVILEGED}]
                for kind, name in (("initContainers", "init"), ("containers", "wait"))
            }
        ),
        "arguments": {
            "parameters": [
                {"name": "key", "value": "", "description": "Key of the run; the workflow's name."},
                {"name": "profile", "value": "fast", "enum": ["fast", "best"]},
                {"name": "minutes", "value": "10", "description": "Watch after a promotion."},
            ]
        },
        "podGC": {"strategy": "OnPodSuccess"},
        "ttlStrategy": {"secondsAfterCompletion": 604_800},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "templates": [main, *map(_argo_template, listed)],
    }
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "job"}
    return [
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "WorkflowTemplate",
            "metadata": {"name": NAME, "labels": labels},
            "spec": spec,
        },
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "CronWorkflow",
            "metadata": {"name": NAME, "labels": labels},
            "spec": {
                # Training has its own triggers. Resume this one instead of them, not besides.
                "suspend": True,
                "schedules": ["0 2 * * *"],
                "concurrencyPolicy": "Forbid",
                "workflowSpec": {"workflowTemplateRef": {"name": NAME}},
            },
        },
    ]


def _argo_template(task: Task) -> dict[str, Any]:
    files = {name: f"/tmp/{name}" for name in task.outputs}  # noqa: S108
    parameters = {
        "key": "{{=workflow.parameters.key == '' ? workflow.name : workflow.parameters.key}}",
        "profile": "{{workflow.parameters.profile}}",
        "minutes": "{{workflow.parameters.minutes}}",
    }
    outputs = [{"name": name, "valueFrom": {"path": file}} for name, file in files.items()]
    return {
        "name": task.name,
        **({"outputs": {"parameters": outputs}} if outputs else {}),
        # A pod that is evicted is replaced; statuses that would come again are final.
        "retryStrategy": {
            "limit": RETRIES,
            "retryPolicy": "Always",
            "expression": f"not (asInt(lastRetry.exitCode) in {list(FINAL)})",
            "backoff": {"duration": "5s", "factor": 2, "maxDuration": "10m"},
        },
        "container": {
            "image": IMAGE,
            "command": ["slipstream"],
            "args": arguments(task, parameters, files),
            "env": deepcopy([*_ENV, _TOKEN]),
            "resources": {
                "requests": {"cpu": _CPU, "memory": _MEMORY},
                "limits": {"memory": _MEMORY_LIMIT},
            },
            "securityContext": deepcopy(_UNPRIVILEGED) | {"readOnlyRootFilesystem": True},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
        },
    }


def for_kubeflow(repository: Path) -> dict[str, Any]:
    """What Kubeflow's compiler is given: the tasks, and what all of them have."""
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    return {
        "source": _STEPS_FILE,
        "name": NAME,
        "image": f"{IMAGE}:{project['version']}",
        "cpu": _CPU,
        "memory": _MEMORY,
        "memory_limit": _MEMORY_LIMIT,
        "retries": RETRIES,
        "urls": URLS,
        "tasks": [task._asdict() for task in tasks()],
    }


if __name__ == "__main__":
    print(json.dumps(for_kubeflow(Path(__file__).parents[1])))
