"""Part 2: each service's pod deleted by force, and Kafka's, Redis's and PostgreSQL's, under load;
nothing is lost, nothing is there twice.
"""

import time

from slipstream.contracts.services import SERVICES
from tests.cluster.bed import Bed
from tests.cluster.kubectl import wait_until
from tests.cluster.load import pods
from tests.cluster.overlay import SERVERS, all_ready, wait_all_ready
from tests.cluster.report import Part
from tests.e2e.stack import wait_for
from tests.faults.traffic import Event, Sent

TITLE = "2 Each pod deleted by force under load"
APPLY_LIMIT_S = 120.0


def run(bed: Bed, part: Part) -> None:
    with pods.events(bed.kubectl, bed.tag, "k", bed.rate, seed=1) as load:
        for app in (*SERVICES, *SERVERS):
            _kill(bed, part, app)
        sent = load.result()
    part.tell("requests sent again", f"{sent.failed:,} of {sent.figures['messages']:,} messages")
    bed.take(part, sent)
    bed.compare(part)


def _kill(bed: Bed, part: Part, app: str) -> None:
    """Delete a pod without a warning; all must be ready again, and a new event applied."""
    (victim, *_) = bed.kubectl.of(app)
    others = {pod.uid: pod.restarts for pod in bed.kubectl.pods()}
    start = time.monotonic()
    bed.kubectl.delete("pod", victim.name, "--force", "--grace-period=0", "--wait=false")
    wait_until(
        lambda: all(pod.uid != victim.uid for pod in bed.kubectl.pods()),
        f"{victim.name} to be gone",
        APPLY_LIMIT_S,
    )
    wait_all_ready(bed.kubectl, f"the end of {victim.name}")
    ready = time.monotonic() - start
    probe(bed)
    applied = time.monotonic() - start
    part.tell(f"{app} killed", f"ready after {ready:.0f} s, an event applied after {applied:.0f} s")
    restarted = [
        f"{pod.name} ×{pod.restarts}"
        for pod in all_ready(bed.kubectl) or []
        if pod.restarts > others.get(pod.uid, 0)
    ]
    part.demand(not restarted, f"restarted when {app} was killed: {', '.join(restarted)}")


def probe(bed: Bed) -> None:
    """Send an event of a new visitor, and wait until features has applied it."""
    number = time.time_ns() // 1_000_000
    event = Event(f"probe-{number}", f"probe-{number}", "view", "probe", number, None)
    message = {
        "type": "track",
        "messageId": event.event_id,
        "userId": event.user_id,
        "timestamp": number,
        "event": "Product Viewed",
        "properties": {"product_id": event.item_id},
    }
    wait_for(
        lambda: bed.services.post("ingestion", "/v1/batch", {"batch": [message]})["results"],
        "the probe to be accepted",
        APPLY_LIMIT_S,
    )
    bed.acknowledged.append(Sent(message, (event,)))
    wait_until(
        lambda: bed.features("visitor", event.user_id)["counts"] == {"view": 1},
        "the probe to be applied",
        APPLY_LIMIT_S,
    )
