"""Part 3: a rolling update of every service, image and manifest, from the version before to this
one, under load; no request fails, nothing is lost.
"""

import statistics
import time
from collections import Counter

from slipstream.contracts.services import SERVICES
from tests.cluster.bed import Bed
from tests.cluster.images import tree_before
from tests.cluster.load import pods
from tests.cluster.load.pods import Answer
from tests.cluster.overlay import image, objects, wait_all_ready, workload
from tests.cluster.report import Part

TITLE = "3 Each service updated from the version before, under load"
QUESTIONS_PER_S = 50.0


def run(bed: Bed, part: Part) -> None:
    with tree_before() as (commit, tree):
        before = objects(bed.kubectl, bed.before, tree)
    this = objects(bed.kubectl, bed.tag)
    part.tell("the version before", commit[:12])
    # Both versions' settings stay: their names have a hash, and each pod names its own.
    settings = [item for item in before if item["kind"] in ("ConfigMap", "Secret")]
    bed.kubectl.apply(*settings, *(workload(before, service) for service in SERVICES))
    part.tell("all at the version before", f"{wait_all_ready(bed.kubectl, 'a change'):.0f} s")
    with (
        pods.events(bed.kubectl, bed.tag, "r", bed.rate / 3, seed=2) as events,
        pods.questions(bed.kubectl, bed.tag, "r", rate=QUESTIONS_PER_S) as questions,
    ):
        for service in SERVICES:
            start = time.monotonic()
            bed.kubectl.apply(workload(this, service))
            wait_all_ready(bed.kubectl, f"the update of {service}")
            part.tell(f"{service} updated", f"after {time.monotonic() - start:.0f} s")
        answers, sent = questions.result(), events.result()
    now = {pod.image for service in SERVICES for pod in bed.kubectl.of(service)}
    wanted = {image(service, bed.tag) for service in SERVICES}
    part.demand(now == wanted, f"images in use: {sorted(now)}")
    judge(part, answers)
    part.tell("requests to ingestion sent again", f"{sent.failed:,}")
    part.demand(sent.failed == 0, f"{sent.failed} requests to ingestion failed: {sent.figures}")
    bed.take(part, sent)
    bed.compare(part)


def judge(part: Part, answers: list[Answer]) -> None:
    """No answer of serving may be a failure."""
    failed = Counter(
        f"{answer.status or 'broken'} {answer.version}"
        for answer in answers
        if answer.status != 200
    )
    took = sorted(answer.took_ms for answer in answers if answer.status == 200)
    p99 = statistics.quantiles(took, n=100)[98] if len(took) > 1 else 0.0
    part.tell(
        "requests to serving failed",
        f"{failed.total():,} of {len(answers):,}; p99 {p99:.0f} ms, longest {max(took):.0f} ms",
    )
    part.demand(not failed, f"requests to serving failed: {dict(failed)}")
