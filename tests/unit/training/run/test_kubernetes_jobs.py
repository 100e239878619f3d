from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.training.run.kubernetes_jobs import (
    TRAINER_API,
    JobStarter,
    api_client,
    job_manifest,
    job_state,
    open_jobs,
)
from services.training.run.launcher import RunFailedError, StarterUnavailableError, StartState
from services.training.settings import TrainingSection
from slipstream.chassis.dependencies import RefusedSettingsError
from tests.unit.training.run.kubernetes_api import (
    CRON_JOBS,
    JOBS,
    PODS,
    ApiServer,
    api_server,
    template,
)

NAME = "training-run-20261128-a1"
RUN = "20261128-a1"
SECTION = TrainingSection(run_timeout_s=3_600)
QUEUE = "/apis/kueue.x-k8s.io"
TRAINER = f"/apis/{TRAINER_API}/namespaces/shop"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as started:
        yield started


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("first\n")
    return file


@pytest.fixture
def jobs(server: ApiServer, token: Path) -> Iterator[JobStarter]:
    with api_client(server.url, token) as client:
        yield JobStarter(client, "shop", SECTION)


def job(**condition: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"status": "True", **condition}] if condition else []}}


def suspended(labels: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "spec": {"suspend": True}, **job()}


def pod(phase: str, **status: Any) -> dict[str, Any]:
    return {"status": {"phase": phase, **status}}


def test_job_is_created_once_watched_and_deleted(server: ApiServer, jobs: JobStarter) -> None:
    jobs.start(RUN, "s3://models/exchange/shop/20261128-a1")
    jobs.start(RUN, "s3://models/exchange/shop/20261128-a1")
    created = server.objects[f"{JOBS}/{NAME}"]
    (container,) = created["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["training-run", "--job", "s3://models/exchange/shop/20261128-a1"]
    assert jobs.state(RUN) == StartState()
    assert server.requests[-1][2] == {"labelSelector": [f"batch.kubernetes.io/job-name={NAME}"]}
    jobs.stop(RUN)
    assert server.requests[-1][:3] == (
        "DELETE",
        f"{JOBS}/{NAME}",
        {"propagationPolicy": ["Background"]},
    )
    assert jobs.state(RUN) == StartState(killed="somebody has deleted the Job of the run")
    jobs.stop(RUN)


def test_requests_need_no_more_than_the_role_of_the_manifests_allows(
    server: ApiServer, jobs: JobStarter
) -> None:
    jobs.start(RUN, "/data/exchange/shop/20261128-a1")
    jobs.state(RUN)
    jobs.stop(RUN)
    assert {(method, path) for method, path, _, _ in server.requests} == {
        ("GET", f"{CRON_JOBS}/training-run"),
        ("POST", JOBS),
        ("GET", f"{JOBS}/{NAME}"),
        ("GET", PODS),
        ("DELETE", f"{JOBS}/{NAME}"),
    }


def test_token_is_read_for_each_request(server: ApiServer, jobs: JobStarter, token: Path) -> None:
    jobs.state(RUN)
    token.write_text("second\n")
    jobs.state(RUN)
    assert [request[3] for request in server.requests] == ["first", "second"]


def test_refused_job_fails_the_run_and_says_why(server: ApiServer, jobs: JobStarter) -> None:
    server.refuse = 403
    with pytest.raises(RunFailedError, match=r"refuses GET .*: 403 it is not allowed"):
        jobs.start(RUN, "/data/exchange/a")
    with pytest.raises(StarterUnavailableError):  # no reason to end what computes already
        jobs.state(RUN)


def test_missing_template_fails_the_run(server: ApiServer, jobs: JobStarter) -> None:
    server.objects.clear()
    with pytest.raises(RunFailedError, match="there is no CronJob training-run"):
        jobs.start(RUN, "/data/exchange/a")
    with pytest.raises(RefusedSettingsError, match="components/training-runs brings it"):
        jobs.check()


def test_queue_is_refused_at_the_start_where_the_cluster_has_no_kueue(
    server: ApiServer, token: Path
) -> None:
    section = TrainingSection(launcher="kubernetes", job_queue="gpus")
    with api_client(server.url, token) as client:
        starter = JobStarter(client, "shop", section)
        with pytest.raises(RefusedSettingsError, match="JOB_QUEUE=gpus needs Kueue"):
            starter.check()
        server.objects[QUEUE] = {"kind": "APIGroup"}
        starter.check()
        server.refuse = 503  # nothing is known of the cluster now, and training starts
        starter.check()


def test_run_as_a_train_job_has_the_jobs_pod_in_a_runtime_of_its_own(
    server: ApiServer, token: Path
) -> None:
    section = TrainingSection(launcher="kubernetes", job_kind="trainjob", job_queue="gpus")
    with api_client(server.url, token) as client:
        starter = JobStarter(client, "shop", section)
        with pytest.raises(RefusedSettingsError, match=r"trainjob needs Kubeflow Trainer 2\.3"):
            starter.check()
        server.objects[f"/apis/{TRAINER_API}"] = server.objects[QUEUE] = {}
        starter.check()
        starter.start(RUN, "/data/exchange/a")
        starter.start(RUN, "/data/exchange/a")
        runtime = server.objects[f"{TRAINER}/trainingruntimes/{NAME}"]
        train_job = server.objects[f"{TRAINER}/trainjobs/{NAME}"]
        assert train_job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
        assert train_job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
        (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        job = job_manifest(template(), RUN, "/data/exchange/a", section)
        del job["spec"]["ttlSecondsAfterFinished"]
        # Trainer's webhook refuses a runtime without a container of this name.
        job["spec"]["template"]["spec"]["containers"][0]["name"] = "node"
        job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"] = "node"
        assert replicated["template"]["spec"] == job["spec"]
        assert starter.state(RUN) == StartState()
        assert server.requests[-1][2] == {
            "labelSelector": [f"jobset.sigs.k8s.io/jobset-name={NAME}"]
        }
        starter.stop(RUN)
        assert starter.state(RUN).killed
        assert not [path for path in server.objects if path.endswith(NAME)]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_server_that_can_not_answer_now_is_unavailable(
    server: ApiServer, jobs: JobStarter, status: int
) -> None:
    server.refuse = status
    for ask in (jobs.state, jobs.stop, lambda run: jobs.start(run, "/x")):
        with pytest.raises(StarterUnavailableError):
            ask(RUN)


def test_server_that_is_away_is_unavailable(token: Path) -> None:
    with api_client("http://127.0.0.1:1", token) as client:
        jobs = JobStarter(client, "shop", SECTION)
        with pytest.raises(StarterUnavailableError, match="the Kubernetes API: "):
            jobs.state(RUN)


def test_job_is_the_template_with_the_runs_name_arguments_and_deadline() -> None:
    made = job_manifest(template(), RUN, "/data/exchange/a", TrainingSection(run_timeout_s=0.5))
    original = template()["spec"]["jobTemplate"]["spec"]
    assert made["metadata"]["name"] == NAME
    assert made["metadata"]["labels"]["slipstream.dev/run"] == RUN
    assert made["spec"].pop("activeDeadlineSeconds") == 1
    del original["activeDeadlineSeconds"]
    for spec in (made["spec"], original):
        del spec["template"]["spec"]["containers"][0]["args"]
    assert made["spec"] == original


def test_job_has_the_device_and_the_queue_of_the_settings() -> None:
    section = TrainingSection(launcher="kubernetes", device="gpu", job_queue="gpus")
    made = job_manifest(template(), RUN, "/data/exchange/a", section)
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    pod = made["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"] == {
        "cpu": "2",
        "memory": "8Gi",
        "nvidia.com/gpu": 1,
    }
    for device, more in (("gpu", []), ("cpu", ["--device", "cpu"])):
        section = TrainingSection(launcher="kubernetes", device=device, processes=2)
        made = job_manifest(template(), RUN, "/data/exchange/a", section)
        (container,) = made["spec"]["template"]["spec"]["containers"]
        command = ["training-run", "--job", "/data/exchange/a", "--processes", "2"]
        assert container["args"] == command + more
        assert container["resources"]["limits"].get("nvidia.com/gpu", 0) == 2 * (device == "gpu")
    assert pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]


def test_template_without_the_runs_container_is_refused() -> None:
    changed = template()
    changed["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["name"] = "other"
    with pytest.raises(RunFailedError, match="has no container training-run"):
        job_manifest(changed, RUN, "/data/exchange/a", SECTION)


@pytest.mark.parametrize(
    ("found", "pods", "expected"),
    [
        (job(), [pod("Running")], StartState()),
        (job(), [], StartState()),
        (
            suspended({"kueue.x-k8s.io/queue-name": "gpus"}),
            [],
            StartState(waits="the suspended Job waits for its quota in the queue gpus", held=True),
        ),
        (suspended({}), [], StartState(waits="the suspended Job waits to be resumed", held=True)),
        (
            job(),
            [
                pod("Failed"),
                pod(
                    "Pending",
                    conditions=[
                        {"type": "PodScheduled", "status": "False", "message": "no GPU is free"}
                    ],
                ),
            ],
            StartState(waits="no GPU is free"),
        ),
        (
            job(),
            [
                pod(
                    "Pending",
                    containerStatuses=[
                        {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "denied"}}}
                    ],
                )
            ],
            StartState(waits="ImagePullBackOff denied"),
        ),
        (job(), [pod("Pending")], StartState(waits="a pod starts")),
        (
            job(type="Complete"),
            [pod("Succeeded")],
            StartState(ended="the run's Job ended without a result"),
        ),
        (
            job(type="Failed", reason="BackoffLimitExceeded"),
            [
                pod(
                    "Failed",
                    containerStatuses=[{"state": {"terminated": {"reason": "OOMKilled"}}}],
                )
            ],
            StartState(
                ended="the run's Job failed: its pods were killed more often than its backoffLimit "
                "allows; a pod was killed for want of memory"
            ),
        ),
        (
            job(type="Failed", reason="NewReason", message="something else"),
            [],
            StartState(ended="the run's Job failed: something else"),
        ),
        (
            {"status": {"conditions": [{"type": "Failed", "status": "False"}]}},
            [],
            StartState(),
        ),
    ],
)
def test_state_says_why_a_job_ended_or_what_it_waits_for(
    found: dict[str, Any], pods: list[dict[str, Any]], expected: StartState
) -> None:
    assert job_state(found, pods) == expected


def test_outside_a_pod_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(RefusedSettingsError, match="needs a pod"):
        open_jobs(SECTION)
