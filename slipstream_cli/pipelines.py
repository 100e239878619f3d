"""Pipelines of a training run for workflow engines, made from one table of tasks.

Argo gets a WorkflowTemplate and a suspended CronWorkflow, Kubeflow Pipelines its intermediate
representation (IR). A task is a command of `slipstream runs`, which asks and computes nothing. The
key of the run makes repeats harmless, so engines keep no results of their own.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, NamedTuple

from slipstream.contracts.services import SERVICES
from slipstream.contracts.steps import STEPS

ARGO: Final = "deploy/kubernetes/components/argo-pipeline/pipeline.yaml"
KUBEFLOW: Final = "deploy/pipelines/kubeflow.yaml"
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
        task: The task.
        parameters: Value of each parameter.
        files: File of each output of the task.
    """
    words = [parameters.get(word.strip("{}"), word) for word in task.words]
    for name in task.outputs:
        words += ["--output", f"{name}={files[name]}"]
    return words


def pipeline_pages(repository: Path) -> dict[str, str]:
    """Texts of the generated pipelines, by path in the repository."""
    import yaml  # of the development tools, like the checkout that is written to

    note = "# Written by `slipstream docs` from slipstream/contracts/steps.py; change it there.\n"
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    pipelines = {ARGO: argo(), KUBEFLOW: kubeflow(f"{IMAGE}:{project['version']}")}
    return {
        path: note + yaml.safe_dump_all(documents, sort_keys=False, width=100)
        for path, documents in pipelines.items()
    }


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


def kubeflow(image: str) -> list[dict[str, Any]]:
    """The IR for Kubeflow Pipelines 2.17, with what it needs of Kubernetes, as kfp compiles it."""
    listed = tasks()
    always = [task for task in listed if not task.if_promoted]
    promoted = [task for task in listed if task.if_promoted]
    channels = ("gate-decision", "key", "minutes")
    decision = {"taskOutputParameter": {"outputParameterKey": "decision", "producerTask": "gate"}}
    root = _kubeflow_tasks(always, "")
    root["condition-1"] = {
        "componentRef": {"name": "comp-condition-1"},
        "dependentTasks": ["gate"],
        "inputs": {
            "parameters": {
                "pipelinechannel--gate-decision": decision,
                "pipelinechannel--key": {"componentInputParameter": "key"},
                "pipelinechannel--minutes": {"componentInputParameter": "minutes"},
            }
        },
        "taskInfo": {"name": "promoted"},
        "triggerPolicy": {
            "condition": "inputs.parameter_values['pipelinechannel--gate-decision'] == 'promoted'"
        },
    }
    condition = {
        "dag": {"tasks": _kubeflow_tasks(promoted, "pipelinechannel--")},
        "inputDefinitions": _parameters(f"pipelinechannel--{name}" for name in channels),
    }
    defaults = {"profile": "fast", "minutes": "10"}
    inputs = _parameters(["key"])
    for name, value in defaults.items():
        given = {"defaultValue": value, "isOptional": True, "parameterType": "STRING"}
        inputs["parameters"][name] = given
    pipeline = {
        "components": {"comp-condition-1": condition}
        | {f"comp-{task.name}": _kubeflow_component(task) for task in listed},
        "deploymentSpec": {
            "executors": {f"exec-{task.name}": _kubeflow_executor(task, image) for task in listed}
        },
        "pipelineInfo": {"name": NAME},
        "root": {"dag": {"tasks": root}, "inputDefinitions": inputs},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
    }
    secret = _TOKEN["valueFrom"]["secretKeyRef"]
    token = {
        "keyToEnv": [{"envVar": _TOKEN["name"], "secretKey": secret["key"]}],
        "optional": False,
        "secretName": secret["name"],
        "secretNameParameter": {"runtimeValue": {"constant": secret["name"]}},
    }
    # Copies, since YAML would refer from one place to the other.
    executors = {f"exec-{task.name}": {"secretAsEnv": [deepcopy(token)]} for task in listed}
    platforms = {"kubernetes": {"deploymentSpec": {"executors": executors}}}
    return [pipeline, {"platforms": platforms}]


def _used(task: Task) -> list[str]:
    return [word.strip("{}") for word in task.words if word.startswith("{")]


def _parameters(names: Iterable[str]) -> dict[str, Any]:
    return {"parameters": {name: {"parameterType": "STRING"} for name in names}}


def _kubeflow_tasks(listed: Sequence[Task], prefix: str) -> dict[str, Any]:
    """Tasks of a DAG, one after the other; `prefix` is that of the DAG's own inputs."""
    made = {}
    for before, task in zip((None, *listed), listed, strict=False):
        inputs = {name: {"componentInputParameter": f"{prefix}{name}"} for name in _used(task)}
        made[task.name] = {
            "cachingOptions": {},
            "componentRef": {"name": f"comp-{task.name}"},
            **({"dependentTasks": [before.name]} if before else {}),
            "inputs": {"parameters": inputs},
            "retryPolicy": {
                "backoffDuration": "5s",
                "backoffFactor": 2.0,
                "backoffMaxDuration": "3600s",
                "maxRetryCount": RETRIES,
            },
            "taskInfo": {"name": task.name},
        }
    return made


def _kubeflow_component(task: Task) -> dict[str, Any]:
    outputs = {"outputDefinitions": _parameters(task.outputs)} if task.outputs else {}
    return {
        "executorLabel": f"exec-{task.name}",
        "inputDefinitions": _parameters(_used(task)),
        **outputs,
    }


def _kubeflow_executor(task: Task, image: str) -> dict[str, Any]:
    parameters = {name: f"{{{{$.inputs.parameters['{name}']}}}}" for name in _used(task)}
    files = {name: f"{{{{$.outputs.parameters['{name}'].output_file}}}}" for name in task.outputs}
    return {
        "container": {
            "args": arguments(task, parameters, files),
            "command": ["slipstream"],
            "env": deepcopy(_ENV),
            "image": image,
            "resources": {
                "cpuRequest": 0.1,
                "memoryLimit": 0.2097152,
                "memoryRequest": 0.1048576,
                "resourceCpuRequest": _CPU,
                "resourceMemoryLimit": _MEMORY_LIMIT,
                "resourceMemoryRequest": _MEMORY,
            },
        }
    }
