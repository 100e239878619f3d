"""Part 9: serving from zero by the component `serving-to-zero`, behind the NetworkPolicies. Held
requests are answered by the model, and monitoring knows that serving sleeps.
"""

import json
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from tests.cluster.bed import Bed
from tests.cluster.components import rendered
from tests.cluster.forwarding import TOKEN
from tests.cluster.kubectl import wait_until
from tests.cluster.load import pods
from tests.cluster.milestones import Milestones
from tests.cluster.overlay import objects, tagged, wait_all_ready
from tests.cluster.parts.network import name_server
from tests.cluster.report import Part

TITLE = "9 Serving from zero: held requests, and zero again"
HELD = 20
# From a wake's first request to the first answer by the model; from the last answer to no pod.
WAKE_P95_S, ZERO_S = 15.0, 60.0
# The route's own limit for a pod to become ready.
HOLD_S = 30.0
GONE_LIMIT_S = 180.0
NEW = ("scaledobject/serving-to-zero", "interceptorroute/serving", "service/serving-interceptor")
INTERCEPTOR = "http://keda-add-ons-http-interceptor-proxy.keda:8080"
# Prints, as JSON, when it began, and of each request its status, its seconds and what answered.
ASK = f"""
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
import httpx
headers = {{"Authorization": "Bearer {TOKEN}", "Host": "serving-interceptor"}}
began = time.time()
def ask(number):
    try:
        answer = httpx.get(
            f"{INTERCEPTOR}/v1/recommendations/u{{number}}", headers=headers, timeout=120
        )
    except httpx.TransportError as error:
        return 0, time.time() - began, type(error).__name__
    told = answer.json() if answer.status_code == 200 else {{}}
    return answer.status_code, time.time() - began, told.get("answered_by", answer.text[:80])
count = int(sys.argv[1])
with ThreadPoolExecutor(count) as pool:
    print(json.dumps([began, list(pool.map(ask, range(count)))]))
"""


def run(bed: Bed, part: Part) -> None:
    if "interceptorroutes.http.keda.sh" not in bed.kubectl.run("get", "crd", "-o", "name"):
        part.skipped = "this cluster has no HTTP add-on of KEDA"
        return
    plain = objects(bed.kubectl, bed.tag)
    try:
        apply_component(bed, plain, "serving-to-zero")
        with pods.idle(bed.kubectl, bed.tag, pods.CLIENTS, "waker"):
            begun = time.time()
            wait_for_zero(bed)
            part.tell("at zero, after the component", f"{time.time() - begun:.0f} s")
            _judge_sleep(bed, part)
            _wakes(bed, part)
            _without_training(bed, part)
    finally:
        bed.kubectl.delete(*NEW)
        restore(bed, plain)


def apply_component(
    bed: Bed, plain: Sequence[dict[str, Any]], *components: str
) -> list[dict[str, Any]]:
    """Apply the policies and what components add, with the Deployments that they change; all that
    the overlay has with them.
    """
    there = {_name(item) for item in plain}
    items = tagged(rendered(bed.kubectl, "network-policies", *components), bed.tag)
    changed = [i for i in items if _name(i) not in there or _is_changed(i)]
    bed.kubectl.apply(*changed, *name_server(bed))
    return items


def restore(bed: Bed, plain: Sequence[dict[str, Any]]) -> None:
    """The overlay as it was."""
    bed.kubectl.delete("networkpolicy", "--all")
    bed.kubectl.apply(*(item for item in plain if _is_changed(item)))
    wait_all_ready(bed.kubectl, "the end of the component")


def ask(bed: Bed, count: int) -> tuple[float, list[tuple[int, float, str]]]:
    """When so many requests began together; of each its status, seconds and what answered."""
    told = bed.kubectl.execute(
        "waker", "python", "-c", ASK, str(count), namespace=pods.CLIENTS, limit_s=150
    )
    began, answers = json.loads(told)
    return began, [(status, seconds, words) for status, seconds, words in answers]


def _wakes(bed: Bed, part: Part) -> None:
    first, last, zero, spans = [], [], [], []
    for _ in range(bed.wakes):
        with Milestones(bed.kubectl, "serving") as milestones:
            began, answers = ask(bed, HELD)
            ended = time.time()
            wait_for_zero(bed)
            zero.append(time.time() - ended)
        lost = [answer for answer in answers if answer[0] != 200]
        part.demand(not lost, f"{len(lost)} of {HELD} held requests failed: {lost[:2]}")
        by_model = [seconds for _, seconds, words in answers if words == "model"]
        part.demand(bool(by_model), f"no answer by the model: {answers[:2]}")
        first.append(min(by_model, default=0.0))
        last.append(max(seconds for _, seconds, _ in answers))
        spans.append(milestones.spans(began, first[-1]))
    part.tell("from zero to the first answer", _shown(first))
    part.tell(f"to the last of {HELD} held ones", _shown(last))
    for name in spans[0]:
        part.tell(f"  {name}", _shown([one.get(name, 0.0) for one in spans]))
    part.tell("zero again after the last answer", _shown(zero))
    p95 = sorted(first)[math.ceil(0.95 * len(first)) - 1]
    part.demand(p95 <= WAKE_P95_S, f"a wake took {p95:.1f} s")
    part.demand(max(zero) <= ZERO_S, f"a pod stayed for {max(zero):.0f} s")


def _judge_sleep(bed: Bed, part: Part) -> None:
    def state() -> str:
        services = bed.services.get("monitoring", "/v1/services")["items"]
        return next(str(one["state"]) for one in services if one["name"] == "serving")

    wait_until(lambda: state() == "asleep", "monitoring to see that serving sleeps", 60.0)
    alerts = bed.services.get("monitoring", "/v1/alerts", state="open")["items"]
    down = [alert["summary"] for alert in alerts if alert["rule"] == "service_down"]
    part.tell("monitoring", f"serving is {state()}, alerts of services: {len(down)}")
    part.demand(not any("serving" in words for words in down), f"alerts: {down}")


def _without_training(bed: Bed, part: Part) -> None:
    """Serving wakes without training, too, and has the model once training is back."""
    scale = ("--namespace", "slipstream", "scale", "deployment/training")
    bed.kubectl.run(*scale, "--replicas=0")
    wait_until(lambda: not bed.kubectl.of("training"), "training to be away", GONE_LIMIT_S)
    _, ((status, seconds, words),) = ask(bed, 1)
    part.tell("woken without training", f"{status} after {seconds:.1f} s: {words.strip()}")
    part.demand(status == 200, f"a request without training got {status}: {words}")
    part.demand(seconds <= HOLD_S, f"it was held for {seconds:.0f} s")
    bed.kubectl.run(*scale, "--replicas=1")
    wait_until(
        lambda: any(pod.ready for pod in bed.kubectl.of("training")), "training", GONE_LIMIT_S
    )
    at = time.monotonic()
    wait_until(lambda: ask(bed, 1)[1][0][2] == "model", "an answer by the model", GONE_LIMIT_S)
    part.tell("  by the model again, after training", f"{time.monotonic() - at:.0f} s")


def wait_for_zero(bed: Bed) -> None:
    wait_until(
        lambda: all(pod.app != "serving" for pod in bed.kubectl.pods()),
        "serving to have no pod",
        GONE_LIMIT_S,
    )


def _shown(seconds: Sequence[float]) -> str:
    middle, most = statistics.median(seconds), max(seconds)
    return f"median {middle:.1f} s, longest of {len(seconds)} {most:.1f} s"


def _name(item: dict[str, Any]) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _is_changed(item: dict[str, Any]) -> bool:
    return _name(item) in (("Deployment", "serving"), ("Deployment", "monitoring"))
