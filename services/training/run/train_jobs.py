"""TrainJobs of Kubeflow Trainer (v1alpha1 of 2.3): a run's Job in the form that Trainer starts."""

import copy
from collections.abc import Mapping
from typing import Any, Final

# Trainer wants the container of a `trainer` step to have this name.
CONTAINER: Final = "node"
API: Final = "trainer.kubeflow.org/v1alpha1"


def train_job_manifests(
    job: Mapping[str, Any], template_container: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The TrainingRuntime with the Job's pod and arguments, and the TrainJob that refers to it.

    `template_container` is the name of the run's container in the Job.
    Both have the Job's name. There is no time after which they are deleted: Trainer makes a JobSet
    again that was (kubeflow/trainer#3737), and training deletes both.
    """
    name, labels = job["metadata"]["name"], job["metadata"]["labels"]
    spec = copy.deepcopy(job["spec"])
    spec.pop("ttlSecondsAfterFinished", None)
    for container in spec["template"]["spec"]["containers"]:
        if container["name"] == template_container:
            container["name"] = CONTAINER
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        if rule.get("onExitCodes", {}).get("containerName") == template_container:
            rule["onExitCodes"]["containerName"] = CONTAINER
    step = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    runtime = {
        "apiVersion": API,
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
        "apiVersion": API,
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "runtimeRef": {
                "apiGroup": API.partition("/")[0],
                "kind": "TrainingRuntime",
                "name": name,
            }
        },
    }
    return runtime, train_job
