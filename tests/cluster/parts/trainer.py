"""Part 11: a training run as a TrainJob of Kubeflow Trainer, judged as others are."""

from tests.cluster.bed import Bed
from tests.cluster.overlay import objects
from tests.cluster.parts import argo
from tests.cluster.parts.start import begin, finish
from tests.cluster.report import Part
from tests.e2e.stack import wait_for

TITLE = "11 A training run as a TrainJob"
MADE = "trainjob,trainingruntime"


def run(bed: Bed, part: Part) -> None:
    if "trainjobs.trainer.kubeflow.org" not in bed.kubectl.run("get", "crd", "-o", "name"):
        part.skipped = "this cluster has no Kubeflow Trainer"
        return
    plain = objects(bed.kubectl, bed.tag)
    try:
        argo.apply(bed, plain, settings={"SLIPSTREAM_TRAINING__JOB_KIND": "trainjob"})
        run_id = begin(bed, "a TrainJob")
        pod = wait_for(lambda: argo.running_pod(bed), "the pod of the run", argo.POD_LIMIT_S)
        kinds = sorted(item["kind"] for item in bed.kubectl.get(MADE)["items"])
        part.tell("made for the run", f"{', '.join(kinds)}, pod {pod.name}")
        part.demand(kinds == ["TrainJob", "TrainingRuntime"], f"made: {kinds}")
        ended = finish(bed, part, run_id)
        part.demand(bool(ended["decision"]), "the gate did not judge the run")
        wait_for(lambda: not bed.kubectl.get(MADE)["items"], "the TrainJob to be deleted")
    finally:
        bed.kubectl.delete(MADE, "--all")
        argo.restore(bed, plain)
