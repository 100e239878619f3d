"""Components of training as kubectl renders them: runs as Jobs, and as a workflow."""

from typing import Any

from services.training.run import kubernetes_jobs
from services.training.runs import new_run_id
from services.training.settings import TrainingSection
from tests.cluster.components import rendered as on_local
from tests.cluster.kubectl import Kubectl
from tests.manifests.installations import built, combination


def rendered(*components: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of the base with components, by kind and name."""
    return by_kind(combination(*components))


def by_kind(objects: tuple[dict[str, Any], ...]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(o["kind"], o["metadata"]["name"]): o for o in objects}


def test_component_renders_with_the_overlays_image_and_every_reference_resolved() -> None:
    objects = rendered("training-runs")
    template = objects["CronJob", "training-run"]
    run_id = new_run_id()
    uri = f"/data/exchange/slipstream/{run_id}"
    job = kubernetes_jobs.job_manifest(template, run_id, uri, TrainingSection())
    assert len(job["metadata"]["name"]) <= 63
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry/training:7"
    told = {it["name"]: it.get("value") for it in pod["containers"][0]["env"]}
    assert told["RUN_IMAGE"] == "registry/training:7"
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


def test_on_s3_a_run_mounts_nothing() -> None:
    objects = by_kind(built("training in Jobs, exchange in a bucket"))
    assert ("PersistentVolumeClaim", "exchange") not in objects
    pod = objects["CronJob", "training-run"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp"]
    assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == ["tmp"]
    training = objects["Deployment", "training"]["spec"]["template"]["spec"]
    assert "exchange" not in {volume["name"] for volume in training["volumes"]}
    (settings,) = pod["containers"][0]["envFrom"]
    found = objects["ConfigMap", settings["configMapRef"]["name"]]["data"]
    assert found["SLIPSTREAM_TRAINING__EXCHANGE"].startswith("s3://")


def test_a_workflows_steps_have_the_overlays_image_and_reach_what_they_ask() -> None:
    objects = rendered("network-policies", "argo-pipeline")
    template = objects["WorkflowTemplate", "slipstream-pipeline"]["spec"]
    images = {it["container"]["image"] for it in template["templates"] if "container" in it}
    assert images == {"registry/training:7"}
    assert ("ServiceAccount", template["serviceAccountName"]) in objects
    for service in ("training", "serving", "monitoring"):
        sources = objects["NetworkPolicy", service]["spec"]["ingress"][-1]["from"]
        assert sources == [{"podSelector": {"matchLabels": template["podMetadata"]["labels"]}}]


def test_a_workflows_steps_name_the_secret_that_an_overlay_makes() -> None:
    items = on_local(Kubectl("/dev/null"), "argo-pipeline")
    (workflow,) = (item for item in items if item["kind"] == "WorkflowTemplate")
    containers = [it["container"] for it in workflow["spec"]["templates"] if "container" in it]
    named = {
        env["valueFrom"]["secretKeyRef"]["name"]
        for container in containers
        for env in container["env"]
        if "valueFrom" in env
    }
    assert named <= {item["metadata"]["name"] for item in items if item["kind"] == "Secret"}
