"""Part 10: serving as KServe's InferenceService, behind its own Service and the NetworkPolicies.
Unmodified clients of KServe and Triton get lists of the model; then it starts from zero.
"""

import subprocess
import time

from tests.cluster.bed import Bed
from tests.cluster.forwarding import TOKEN
from tests.cluster.kubectl import wait_until
from tests.cluster.load import pods
from tests.cluster.overlay import objects
from tests.cluster.parts import zero
from tests.cluster.report import Part
from tests.integration.client_environments import FOLDER, is_installed, python_of

TITLE = "10 Serving by KServe: its clients, and from zero"
READY_LIMIT_S = 180.0
CLIENTS = ("kserve", "triton")
SCRIPT = FOLDER.parent / "tests" / "integration" / "inference_client.py"


def run(bed: Bed, part: Part) -> None:
    if "inferenceservices.serving.kserve.io" not in bed.kubectl.run("get", "crd", "-o", "name"):
        part.skipped = "this cluster has no KServe"
        return
    plain = objects(bed.kubectl, bed.tag)
    try:
        at = time.monotonic()
        zero.apply_component(bed, plain, "kserve")
        bed.kubectl.delete("deployment/serving")
        wait_until(lambda: _is_ready(bed), "the InferenceService", READY_LIMIT_S)
        part.tell("the InferenceService is ready after", f"{time.monotonic() - at:.0f} s")
        (pod,) = bed.kubectl.of("serving")
        part.tell("its pod", f"{pod.name}, restarts {pod.restarts}")
        bed.services.get("serving", "/health/ready")
        for client in CLIENTS:
            _ask(bed, part, client)
        if "interceptorroutes.http.keda.sh" in bed.kubectl.run("get", "crd", "-o", "name"):
            _from_zero(bed, part, plain)
    finally:
        bed.kubectl.delete("inferenceservice/serving")
        zero.restore(bed, plain)


def _from_zero(bed: Bed, part: Part, plain: list[dict[str, object]]) -> None:
    zero.apply_component(bed, plain, "serving-to-zero", "kserve")
    try:
        with pods.idle(bed.kubectl, bed.tag, pods.CLIENTS, "waker"):
            zero.wait_for_zero(bed)
            _, answers = zero.ask(bed, zero.HELD)
    finally:
        bed.kubectl.delete(*zero.NEW)
    good = [seconds for status, seconds, words in answers if (status, words) == (200, "model")]
    part.tell("from zero, held requests answered", f"{len(good)} of {zero.HELD}")
    part.tell("  the first after", f"{min(good, default=0.0):.1f} s")
    part.demand(len(good) == zero.HELD, f"held requests that failed: {answers[:2]}")


def _is_ready(bed: Bed) -> bool:
    status = bed.kubectl.get("inferenceservice/serving").get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    return conditions.get("Ready") == "True" and len(bed.kubectl.of("serving")) == 1


def _ask(bed: Bed, part: Part, client: str) -> None:
    if not is_installed(client):
        part.tell(f"{client}'s client", "left out: make clients")
        return
    address = bed.services.url("serving").removeprefix("http://")
    done = subprocess.run(
        [python_of(client), SCRIPT, client, address, TOKEN],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    part.tell(f"{client}'s client", (done.stdout or done.stderr).strip().splitlines()[-1])
    part.demand(done.returncode == 0, f"{client}'s client: {done.stderr[-500:]}")
