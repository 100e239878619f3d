"""Training runs as Jobs: the component agrees with the code."""

from typing import Any

from services.training.run import kubernetes_jobs, worker
from services.training.settings import TrainingSection
from tests.deploy.declared import image_environment, names_a_setting
from tests.deploy.manifests import KUBERNETES, container, documents, kustomization

COMPONENT = KUBERNETES / "components" / "training-runs"


def job_spec() -> dict[str, Any]:
    (cron_job,) = documents(COMPONENT / "training-run.yaml")
    assert cron_job["metadata"]["name"] == TrainingSection().job_template
    assert cron_job["spec"]["suspend"] is True
    return dict(cron_job["spec"]["jobTemplate"]["spec"])


def run_container() -> dict[str, Any]:
    (found,) = job_spec()["template"]["spec"]["containers"]
    return dict(found)


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
    # The policy needs both; a second pod would write the same checkpoints as the first.
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
    variables = {v["name"]: v.get("valueFrom", {}) for v in run_container()["env"]}
    assert {v for v in variables if not names_a_setting(v)} == {
        "OMP_NUM_THREADS",
        "RUN_IMAGE",
    }
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
        ("trainjobs", ("create", "get", "delete"), ()),
        ("trainingruntimes", ("create", "get", "delete"), ()),
        ("pods", ("list",), ()),
    }
