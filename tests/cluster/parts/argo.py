"""Part 8: training runs as Jobs, requested by workflows of Argo. In the first, pods are evicted,
training is unavailable for a minute, and the gate refuses. By hand, and on this machine, the same
bundle comes about. Then two workflows of one key promote a version, once.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from generate.pipelines import NAME, tasks
from services.training.run.exchange import RunFiles
from services.training.run.job import Job
from services.training.settings import TrainingSection
from slipstream.chassis.client import Peer
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.times import now_ms
from slipstream.stores.object_store import ObjectStore
from tests.cluster.bed import Bed
from tests.cluster.components import rendered
from tests.cluster.forwarding import TOKEN
from tests.cluster.kubectl import NAMESPACE, Pod, wait_until
from tests.cluster.milestones import ContainerTimes
from tests.cluster.overlay import objects, tagged, wait_all_ready
from tests.cluster.parts.network import name_server
from tests.cluster.parts.start import RUN_LIMIT_S, begin, finish
from tests.cluster.report import Part
from tests.e2e.stack import wait_for

TITLE = "8 Training runs as workflows: evicted, refused, promoted once"
APP: Final = "training-run"
# Gate and settings that let a challenger which is as good as the champion replace it.
LENIENT: Final = {
    "SLIPSTREAM_TRAINING__GATE__CHAMPION_MAX_AGE_HOURS": "0.001",
    "SLIPSTREAM_TRAINING__GATE__TOLERANCE": "1",
}
POD_LIMIT_S, EPOCH_LIMIT_S, WORKFLOW_LIMIT_S = 120.0, 300.0, 900.0
# Training's absence; what a workflow may add to a step.
AWAY_S, STEP_S = 60.0, 12.0
CORES: Final = 0.1
VISITORS: Final = 200
# Fields of a manifest that two runs never share, and one that an image may not know.
OF_A_RUN: Final = {"version", "created_at", "code_commit"}
# A laptop's share, and a volume that the pods of one node share.
PATCHES: Final = (
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "exchange"},
        "spec": {"accessModes": ["ReadWriteOnce"]},
    },
    {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": APP},
        "spec": {
            "jobTemplate": {
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [
                                {
                                    "name": APP,
                                    "resources": {
                                        "requests": {"cpu": str(CORES), "memory": "1Gi"},
                                        "limits": {"cpu": "2", "memory": "3Gi"},
                                    },
                                }
                            ]
                        }
                    }
                }
            }
        },
    },
)
SCALE: Final = ("--namespace", NAMESPACE, "scale", "deployment/training")


def run(bed: Bed, part: Part) -> None:
    if "workflows.argoproj.io" not in bed.kubectl.run("get", "crd", "-o", "name"):
        part.skipped = "this cluster has no Argo Workflows"
        return
    plain = objects(bed.kubectl, bed.tag)
    try:
        apply(bed, plain, "argo-pipeline", settings=LENIENT)
        champion = wait_for(bed.champion, "the registry", POD_LIMIT_S)
        refused = _refused(bed, part)
        by_hand = finish(bed, part, begin(bed, "by hand"))
        part.demand(bed.champion() == champion, "a version that was refused is the champion")
        made = {name: _manifest(bed, it) for name, it in (("Argo", refused), ("hand", by_hand))}
        made["this machine"] = _here(bed, champion, refused)
        _compare(part, made)
        _promoted(bed, part)
    finally:
        bed.kubectl.delete("workflow,workflowtemplate,cronworkflow", "--all")
        restore(bed, plain)


def apply(
    bed: Bed, plain: Sequence[dict[str, Any]], *components: str, settings: Mapping[str, str]
) -> None:
    """Apply the policies and runs as Jobs, with what components add, and training's Deployment.

    The settings get another name by it. The other services keep theirs, and are not replaced.
    """
    changed = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "slipstream-settings"},
        "data": dict(settings),
    }
    there = {_name(item) for item in plain}
    names = ("network-policies", "training-runs", *components)
    items = tagged(rendered(bed.kubectl, *names, patches=[*PATCHES, changed]), bed.tag)
    added = (i for i in items if _name(i) not in there or _of_training(i))
    bed.kubectl.apply(*added, *name_server(bed), _api_server(bed))
    wait_all_ready(bed.kubectl, f"{', '.join(names)} were applied")


def _api_server(bed: Bed) -> dict[str, Any]:
    """A policy for the API server, which may have another port than the components know."""
    slices = bed.kubectl.get("endpointslices", namespace="default")["items"]
    found = [it for it in slices if it["metadata"]["name"].startswith("kubernetes")]
    ports = [{"port": port["port"]} for it in found for port in it["ports"]]
    those = {"key": "app.kubernetes.io/name", "operator": "In", "values": ["training", NAME]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "api-server", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchExpressions": [those]},
            "policyTypes": ["Egress"],
            "egress": [{"ports": ports}],
        },
    }


def restore(bed: Bed, plain: Sequence[dict[str, Any]]) -> None:
    """The overlay as it was."""
    bed.kubectl.delete("cronjob", APP)
    bed.kubectl.delete("role,rolebinding", "training-runs")
    bed.kubectl.delete("networkpolicy", "--all")
    bed.kubectl.apply(*(item for item in plain if _of_training(item)))
    wait_all_ready(bed.kubectl, "the end of training runs as Jobs")


def _refused(bed: Bed, part: Part) -> dict[str, Any]:
    """A workflow that goes on through evictions and an outage, until the gate refuses; the run."""
    key = "refused"
    with ContainerTimes(bed.kubectl, APP) as times:
        _submit(bed, key)
        first = wait_for(lambda: running_pod(bed), "the pod of the run", POD_LIMIT_S)
        wait_until(lambda: _checkpoints(bed), "a checkpoint of the network", EPOCH_LIMIT_S)
        step = wait_for(lambda: running_pod(bed, NAME), "a step's pod", POD_LIMIT_S)
        for pod in (first, step):
            _evict(bed, pod)
        bed.kubectl.run(*SCALE, "--replicas=0")
        at = time.monotonic()
        second = wait_for(
            lambda: running_pod(bed, other_than=first), "another pod of the run", POD_LIMIT_S
        )
        part.tell("another pod runs after", f"{time.monotonic() - at:.0f} s")
        wait_for(lambda: running_pod(bed, NAME, step), "another pod of the step", POD_LIMIT_S)
        part.tell("another one of the step after", f"{time.monotonic() - at:.0f} s")
        wait_until(lambda: _kept(bed, second) is not None, "the pod to begin", POD_LIMIT_S)
        kept = _kept(bed, second) or []
        part.tell("it goes on from", ", ".join(kept) or "nothing")
        part.demand(bool(kept), "the second pod began from the start")
        time.sleep(max(0.0, AWAY_S - (time.monotonic() - at)))
        bed.kubectl.run(*SCALE, "--replicas=1")
        workflow = _ended(bed, key)
        seconds = list(times.seconds.values())
    run, steps = (bed.services.get("training", f"/v1/runs/{key}{it}") for it in ("", "/steps"))
    part.tell("evicted, and training unavailable", _told(workflow, run))
    part.demand(run["attempt"] == 1, f"the eviction counted as an attempt: {run['attempt']}")
    part.demand(decision(workflow) == run["decision"] == "refused", f"decided: {run['decision']}")
    skipped = {it["displayName"] for it in nodes(workflow) if it["type"] == "Skipped"}
    part.demand(skipped == {"promote", "watch"}, f"skipped: {skipped}")
    added = _added(part, workflow, steps)
    part.demand(added <= STEP_S, f"a step takes {added:.1f} s more in a workflow")
    part.demand(len(seconds) == 2, f"pods of the run: {len(seconds)}")
    starts = {used["start"] for step in steps["steps"] for used in step["usage"]}
    part.demand(len(starts) == len(seconds), f"starts in the run's steps: {len(starts)}")
    spent = sum(step["processor_s"] for step in steps["steps"])
    part.tell("processor seconds, of the pods' seconds", f"{spent:.0f} of {sum(seconds):.0f}")
    return dict(run)


def _promoted(bed: Bed, part: Part) -> None:
    """Two workflows of one key: one run, one decision, one promotion."""
    key = "promoted"
    _look(bed)
    for name in ("one", "other"):
        _submit(bed, f"{key}-{name}", key=key)
    workflows = [_ended(bed, f"{key}-{name}") for name in ("one", "other")]
    run, steps, decisions = (
        bed.services.get("training", f"/v1/runs/{key}{it}") for it in ("", "/steps", "/decisions")
    )
    part.tell("two workflows of one key", _told(workflows[0], run))
    for workflow in workflows:
        found = workflow["status"]["phase"], decision(workflow)
        part.demand(found == ("Succeeded", "promoted"), f"a workflow of the two: {found}")
    runs = [it for it in bed.services.get("training", "/v1/runs")["items"] if it["key"] == key]
    part.demand(len(runs) == len(decisions) == 1, f"runs {len(runs)}, decisions {len(decisions)}")
    part.demand(bed.champion() == run["model_version"], "the version is not the champion")
    served = bed.services.get("serving", "/v1/model")["version"]
    part.demand(served == run["model_version"], f"serving has {served}")
    _added(part, workflows[0], steps)


def _added(part: Part, workflow: dict[str, Any], steps: dict[str, Any]) -> float:
    """The median of what the workflow adds to its steps: an eviction and an outage hit one."""
    added = overheads(workflow, {it["name"]: it["ended_at"] for it in steps["steps"]})
    middle, longest = statistics.median(added.values()), max(added, key=lambda name: added[name])
    shown = f"median {middle:.1f} s, longest {added[longest]:.1f} s ({longest})"
    part.tell("a workflow adds to a step", shown)
    return middle


def overheads(workflow: dict[str, Any], ended: Mapping[str, int | None]) -> dict[str, float]:
    """Seconds that a workflow adds to each of its steps, by name.

    A step adds from the end of the step before, or that of its part of the run if that is later.

    Args:
        workflow: The workflow; its times are whole seconds.
        ended: When each part of the run ended (ms).
    """
    done, found = _seconds(workflow["status"]["startedAt"]), {}
    at = {it["displayName"]: it for it in nodes(workflow) if it["type"] == "Retry"}
    for name in (task.name for task in tasks() if task.name in at):
        begun = max(done, (ended.get(name) or 0) / 1000)
        done = _seconds(at[name]["finishedAt"])
        found[name] = max(0.0, done - begun)
    return found


def nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a workflow's status: of its steps, and of their pods."""
    return list(workflow["status"].get("nodes", {}).values())


def decision(workflow: dict[str, Any]) -> str:
    """The workflow's output of that name; empty without one."""
    for node in nodes(workflow):
        for output in node.get("outputs", {}).get("parameters", ()):
            if node["type"] == "DAG" and output["name"] == "decision":
                return str(output["value"])
    return ""


def _submit(bed: Bed, name: str, **parameters: str) -> None:
    listed = [{"name": it, "value": value} for it, value in {"minutes": "0", **parameters}.items()]
    bed.kubectl.apply(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "workflowTemplateRef": {"name": NAME},
                "arguments": {"parameters": listed},
            },
        }
    )


def _ended(bed: Bed, name: str) -> dict[str, Any]:
    """The workflow, once it has ended."""

    def found() -> dict[str, Any] | None:
        time.sleep(1)
        workflow = bed.kubectl.get("workflow", name)
        phase = workflow.get("status", {}).get("phase")
        return workflow if phase in ("Succeeded", "Failed", "Error") else None

    return wait_for(found, f"the workflow {name}", WORKFLOW_LIMIT_S)


def _told(workflow: dict[str, Any], run: dict[str, Any]) -> str:
    status = workflow["status"]
    took = _seconds(status["finishedAt"]) - _seconds(status["startedAt"])
    words = f"{status['phase']} after {took:.0f} s, {run['decision']}, attempt {run['attempt']}"
    return words + "".join(f"; {status[it]}" for it in ("message",) if it in status)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _look(bed: Bed) -> None:
    """Events after those of the champion: half of some visitors look at what they are shown."""
    shown = [
        bed.services.get("serving", f"/v1/recommendations/u{number}", n=1)["items"][0]["item_id"]
        for number in range(VISITORS)
    ]
    batch = [
        {
            "type": "track",
            "messageId": f"look-{number}",
            "userId": f"u{number}",
            "timestamp": now_ms(),
            "event": "Product Viewed",
            "properties": {"product_id": shown[number if number % 2 else number - 2]},
        }
        for number in range(VISITORS)
    ]
    bed.services.post("ingestion", "/v1/batch", {"batch": batch})
    bed.wait_caught_up()


def _manifest(bed: Bed, run: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/models/{run['model_version']}/files/manifest.json"
    return dict(bed.services.get("training", path))


def _here(bed: Bed, champion: str, run: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a run on the same data, champion and settings, computed on this machine."""
    folder = bed.folder / "here"
    for name in ("champion", "checkpoints"):
        (folder / name).mkdir(parents=True)
    training = Peer("training", bed.services.url("training"), token=TOKEN)
    path = f"/v1/models/{champion}/files"
    for name in ("manifest.json", *training.get(f"{path}/manifest.json")["files"]):
        training.download(f"{path}/{name}", folder / "champion" / name)
    training.close()
    lake = LakeSettings(uri=str(bed.lake_folder()))
    job = Job(
        version="here",
        profile=run["profile"],
        namespace=NAMESPACE,
        lake=lake,
        training=TrainingSection(),
        output=folder / "bundle",
        checkpoints=folder / "checkpoints",
        champion=folder / "champion",
        champion_version=champion,
        lake_version=run["lake_version"],
        catalog_version=run["catalog_version"],
        pinned=True,
    )
    files = RunFiles(ObjectStore(str(folder / "exchange")))
    files.hand_over(job, "")
    environment = {"SLIPSTREAM_LAKE__URI": lake.uri, "OMP_NUM_THREADS": "2"}
    subprocess.run(
        [sys.executable, "-m", "services", "training-run", "--job", files.uri],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        timeout=RUN_LIMIT_S,
        check=True,
    )
    result = files.result()
    assert result is not None and result.trained is not None, result
    files.collect(result, folder / "bundle")
    return dict(json.loads((folder / "bundle" / "manifest.json").read_text("utf-8")))


def _compare(part: Part, made: Mapping[str, dict[str, Any]]) -> None:
    first, *others = made.values()
    for manifest in made.values():
        manifest["files"].pop("MLmodel")  # it has the version and the time
    different = {name for it in others for name in first if first[name] != it[name]} - OF_A_RUN
    part.tell("the same bundle by", f"{', '.join(made)}: {len(first['files'])} files")
    part.demand(not different, f"the bundles differ in {', '.join(sorted(different))}")


def running_pod(bed: Bed, app: str = APP, other_than: Pod | None = None) -> Pod | None:
    """The pod of a run, or of a workflow's step, that has started and goes on. Argo gives the next
    pod of a step the same name.
    """
    found = [
        pod
        for pod in bed.kubectl.pods()
        if pod.app == app and pod.ready and not pod.stopping and not pod.ends
    ]
    return next((pod for pod in found if other_than is None or pod.uid != other_than.uid), None)


def _checkpoints(bed: Bed) -> list[str]:
    """What the run under way has left for another start."""
    (training, *_) = bed.kubectl.of("training")
    found = "import glob; print(*glob.glob('/data/exchange/*/*/checkpoints/*.pt'))"
    return bed.kubectl.execute(training.name, "python", "-c", found).decode().split()


def _evict(bed: Bed, pod: Pod) -> None:
    """Have a pod evicted, as `kubectl drain` and the end of a spot node do."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod.name}/eviction"
    bed.kubectl.run("create", "--raw", path, "-f", "-", given=json.dumps(eviction))


def _kept(bed: Bed, pod: Pod) -> list[str] | None:
    """The checkpoints that a run's pod began with; None before it has begun."""
    for line in bed.kubectl.run("--namespace", NAMESPACE, "logs", pod.name).splitlines():
        if line.startswith("{") and (said := json.loads(line)).get("event") == "run begins":
            return sorted(said["kept"])
    return None


def _name(item: dict[str, Any]) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _of_training(item: dict[str, Any]) -> bool:
    return _name(item) == ("Deployment", "training")
