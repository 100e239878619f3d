"""What a workflow's status tells: its decision, and what it adds to a step; and a pod's times."""

from typing import Any

from generate.pipelines import argo as written
from tests.cluster.kubectl import Kubectl
from tests.cluster.milestones import ContainerTimes
from tests.cluster.overlay import tagged
from tests.cluster.parts.argo import decision, nodes, overheads

MINUTE = "2026-11-30T12:00:{:02}Z"
MINUTE_S = 1_796_040_000


def node(name: str, kind: str, finished: int, **more: Any) -> dict[str, Any]:
    return {"displayName": name, "type": kind, "finishedAt": MINUTE.format(finished), **more}


WORKFLOW = {
    "status": {
        "startedAt": MINUTE.format(0),
        "nodes": {
            "a": node("start", "Retry", 8),
            "b": node("start(0)", "Pod", 3),
            "c": node("train", "Retry", 45),
            "d": node("gate", "Retry", 50),
            "e": node("promote", "Skipped", 50),
            "f": node(
                "flow",
                "DAG",
                51,
                outputs={"parameters": [{"name": "decision", "value": "refused"}]},
            ),
        },
    }
}


def test_a_step_adds_what_lies_behind_the_step_before_and_its_part_of_the_run() -> None:
    ended = {"train": 1_000 * (MINUTE_S + 40), "gate": 1_000 * (MINUTE_S + 41)}
    assert overheads(WORKFLOW, ended) == {"start": 8, "train": 5, "gate": 5}
    assert overheads(WORKFLOW, {"train": None}) == {"start": 8, "train": 37, "gate": 5}


def test_the_decision_is_an_output_of_the_whole() -> None:
    assert decision(WORKFLOW) == "refused"
    assert decision({"status": {}}) == ""
    assert [it["displayName"] for it in nodes(WORKFLOW) if it["type"] == "Skipped"] == ["promote"]


def test_steps_have_the_image_under_test() -> None:
    template, _ = tagged(written(), "seven")
    images = {it["container"]["image"] for it in template["spec"]["templates"][1:]}
    assert images == {"slipstream/training:seven"}


def test_a_container_that_has_ended_ran_for_whole_seconds() -> None:
    times = ContainerTimes(Kubectl("none"), "training-run")
    ended = {"startedAt": MINUTE.format(3), "finishedAt": MINUTE.format(47)}
    states: list[dict[str, Any]] = [{"waiting": {}}, {"running": {}}, {"terminated": ended}]
    for state in states:
        statuses = [{"state": state}]
        times.note({"metadata": {"uid": "a"}, "status": {"containerStatuses": statuses}})
    times.note({"metadata": {"uid": "b"}, "status": {}})
    assert times.seconds == {"a": 44.0}
