"""Training runs as Jobs: the component agrees with the code, and fits into overlays."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.training.metrics import TrainingMetrics
from services.training.run import kubernetes_jobs, worker
from services.training.runs import new_run_id
from services.training.settings import TrainingSection
from tests.deploy.declared import image_environment, names_a_setting
from tests.deploy.manifests import KUBERNETES, container, documents, kustomization, render

COMPONENT = KUBERNETES / "components" / "training-jobs"
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="needs kubectl to render the component: kubernetes.io/docs/tasks/tools",
)


def job_spec() -> dict[str, Any]:
    (cron_job,) = documents(COMPONENT / "training-run.yaml")
    assert cron_job["metadata"]["name"] == TrainingSection().job_template
    assert cron_job["spec"]["suspend"] is True
    return dict(cron_job["spec"]["jobTemplate"]["spec"])


def run_container() -> dict[str, Any]:
    (found,) = job_spec()["template"]["spec"]["containers"]
    return dict(found)


def rendered(tmp_path: Path, *components: str) -> dict[tuple[str, str], dict[str, Any]]:
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    overlay = tmp_path / "kubernetes" / "overlays" / "shop"
    overlay.mkdir()
    listed = [f"../../components/{name}" for name in components]
    images = [{"name": "slipstream/training", "newName": "registry/training", "newTag": "7"}]
    text = {"resources": ["../../base"], "components": listed, "images": images}
    (overlay / "kustomization.yaml").write_text(json.dumps(text))
    return {(o["kind"], o["metadata"]["name"]): o for o in render(overlay)}


def test_job_starts_again_after_an_eviction_and_not_after_a_failure_of_its_own() -> None:
    spec = job_spec()
    of_its_own, evicted = spec["podFailurePolicy"]["rules"]
    assert of_its_own == {
        "action": "FailJob",
        "onExitCodes": {
            "containerName": kubernetes_jobs.CONTAINER,
            "operator": "In",
            "values": [worker.FAILED],
        },
    }
    assert evicted == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    # The policy needs both; a second pod beside the first would write the same checkpoints.
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["backoffLimit"] == 1
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["activeDeadlineSeconds"] == TrainingSection().run_timeout_s


def test_run_is_as_restricted_as_training_and_bounded() -> None:
    pod, training = job_spec()["template"]["spec"], container("training")
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert run_container()["securityContext"] == training["securityContext"]
    assert set(run_container()["resources"]) == {"requests", "limits"}
    assert all(set(entry) == {"cpu", "memory"} for entry in run_container()["resources"].values())


def test_run_is_given_the_lakes_credentials_and_no_other() -> None:
    variables = {v["name"]: v["valueFrom"] for v in run_container()["env"]}
    assert {v for v in variables if not names_a_setting(v)} == {"OMP_NUM_THREADS"}
    secrets = {v["secretKeyRef"]["key"] for v in variables.values() if "secretKeyRef" in v}
    assert secrets == {"lake-storage-options"}


def test_both_sides_mount_the_exchange_where_the_settings_say() -> None:
    (generated,) = kustomization(COMPONENT)["configMapGenerator"]
    settings = dict(literal.split("=", 1) for literal in generated["literals"])
    assert all(map(names_a_setting, settings))
    section = TrainingSection(
        launcher=settings["SLIPSTREAM_TRAINING__LAUNCHER"],
        exchange=settings["SLIPSTREAM_TRAINING__EXCHANGE"],
    )
    (patch,) = documents(COMPONENT / "training_patch.yaml")
    (training,) = patch["spec"]["template"]["spec"]["containers"]
    for side in (training, run_container()):
        mounts = {mount["name"]: mount["mountPath"] for mount in side["volumeMounts"]}
        assert mounts["exchange"] == section.exchange
    assert mounts["lake"] == image_environment("training")["SLIPSTREAM_LAKE__URI"]


def test_role_has_the_verbs_that_the_client_uses() -> None:
    roles = [d for d in documents(COMPONENT / "access.yaml") if d["kind"] == "Role"]
    rules = {
        (resource, tuple(rule["verbs"]), tuple(rule.get("resourceNames", ())))
        for role in roles
        for rule in role["rules"]
        for resource in rule["resources"]
    }
    assert rules == {
        ("cronjobs", ("get",), (TrainingSection().job_template,)),
        ("jobs", ("create", "get", "delete"), ()),
        ("pods", ("list",), ()),
    }


@needs_kubectl
def test_component_renders_with_the_overlays_image_and_every_reference_resolved(
    tmp_path: Path,
) -> None:
    objects = rendered(tmp_path, "training-jobs")
    template = objects["CronJob", "training-run"]
    run_id = new_run_id()
    job = kubernetes_jobs.job_manifest(template, run_id, f"/data/exchange/slipstream/{run_id}", 60)
    assert len(job["metadata"]["name"]) <= 63
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry/training:7"
    assert ("ServiceAccount", pod["serviceAccountName"]) in objects
    (settings,) = pod["containers"][0]["envFrom"]
    found = objects["ConfigMap", settings["configMapRef"]["name"]]["data"]
    assert found["SLIPSTREAM_TRAINING__LAUNCHER"] == "kubernetes"
    training = objects["Deployment", "training"]["spec"]["template"]["spec"]
    assert training["automountServiceAccountToken"] is True
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in (*pod["volumes"], *training["volumes"])
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"lake", "exchange", "models"}
    assert all(("PersistentVolumeClaim", claim) in objects for claim in claims)


@needs_kubectl
def test_keda_starts_the_jobs_of_the_template_and_training_needs_no_right(tmp_path: Path) -> None:
    objects = rendered(tmp_path, "training-jobs", "training-jobs-s3", "training-jobs-keda")
    scaled = objects["ScaledJob", "training-run"]["spec"]
    template = objects["CronJob", "training-run"]["spec"]["jobTemplate"]["spec"]
    assert scaled["jobTargetRef"] == template
    (container,) = template["template"]["spec"]["containers"]
    assert (container["image"], container["args"]) == ("registry/training:7", ["training-run"])
    found = objects["ConfigMap", container["envFrom"][0]["configMapRef"]["name"]]["data"]
    assert found["SLIPSTREAM_TRAINING__LAUNCHER"] == "external"
    assert not {kind for kind, _ in objects} & {"Role", "RoleBinding"}
    training = objects["Deployment", "training"]["spec"]["template"]["spec"]
    assert training["automountServiceAccountToken"] is False
    (trigger,) = scaled["triggers"]
    metrics = TrainingMetrics(CollectorRegistry())
    (gauge,) = metrics.running.collect()
    assert trigger["metadata"]["valueLocation"] == gauge.name


@needs_kubectl
def test_on_s3_a_run_mounts_nothing(tmp_path: Path) -> None:
    objects = rendered(tmp_path, "training-jobs", "training-jobs-s3")
    assert ("PersistentVolumeClaim", "exchange") not in objects
    pod = objects["CronJob", "training-run"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp"]
    assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == ["tmp"]
    training = objects["Deployment", "training"]["spec"]["template"]["spec"]
    assert "exchange" not in {volume["name"] for volume in training["volumes"]}
    (settings,) = pod["containers"][0]["envFrom"]
    found = objects["ConfigMap", settings["configMapRef"]["name"]]["data"]
    assert found["SLIPSTREAM_TRAINING__EXCHANGE"].startswith("s3://")
