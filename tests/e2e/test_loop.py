"""The whole loop, as a story: what a visitor does changes what the visitor is recommended."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import shop
from tests.e2e.stack import Stack, alive, running, wait_for

BATCH = 500
SHOWN = 5
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # Training waits for our request, so that the story has one run.
    with running(tmp_path_factory.mktemp("slipstream"), SLIPSTREAM_TRAINING__NEW_EVENTS="0") as stack:
        yield stack


def recommended(stack: Stack, user_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = stack.get("serving", f"/v1/recommendations/{user_id}", n=SHOWN)
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def kinds(answer: dict[str, Any]) -> list[str]:
    return [item.partition("-")[0] for item in ids(answer)]


def test_a_visitors_events_become_recommendations_and_these_become_a_report(stack: Stack) -> None:
    # A shop sends its catalogue and the events of its visitors.
    assert stack.post("ingestion", "/v1/items", {"items": shop.ITEMS})["accepted"] == len(shop.ITEMS)
    events = shop.history()
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        assert stack.post("ingestion", "/v1/batch", {"batch": batch})["accepted"] == len(batch)

    # Features takes them in: all of them, into the online store and into the lake.
    wait_for(lambda: stack.get("features", "/v1/status")["caught_up"], "features to catch up")
    assert stack.get("features", "/v1/status")["lake"]["interactions"] == len(events)
    own = [event for event in events if event["userId"] == "tea-lover-0"]
    assert stack.get("features", "/v1/features/visitor/tea-lover-0")["features"]["history_length"] == len(own)

    # Before there is a model, visitors get what is trending, and are told so.
    assert recommended(stack, "tea-lover-0")["answered_by"] != "model"

    # Training fits a model, finds it better than popularity, and promotes it; serving takes it up.
    run_id = stack.post("training", "/v1/runs", {"reason": "the first model"})["run_id"]

    def finished() -> dict[str, Any] | None:
        run: dict[str, Any] = stack.get("training", f"/v1/runs/{run_id}")
        return None if run["state"] in ("queued", "running") else run

    run = wait_for(finished, "the training run", 90)
    assert run["state"] == "succeeded", run
    version = stack.get("training", "/v1/aliases/champion")["version"]
    assert version == run["model_version"], run["decision_reason"]
    wait_for(lambda: stack.get("serving", "/v1/model")["version"] == version, "serving to load the model")

    # Recommendations are personal: each visitor gets, nearly only, what is to their taste.
    tea, coffee = recommended(stack, "tea-lover-0"), recommended(stack, "coffee-lover-0")
    assert (tea["answered_by"], tea["model_version"]) == ("model", version)
    assert kinds(tea).count("tea") >= SHOWN - 1
    assert kinds(coffee).count("coffee") >= SHOWN - 1

    # A click on something else changes the very next lists.
    coffee_before = kinds(tea).count("coffee")
    clicked_at = time.time()
    for number in (3, 4):
        stack.post("ingestion", "/v1/track", shop.track("tea-lover-0", "click", f"coffee-{number}", clicked_at + number / 100))
    changed = wait_for(lambda: _more_coffee(stack, coffee_before), "the clicks to change the list", 5)
    assert ids(changed) != ids(tea)

    # A click on a recommendation names its slate; the report counts it for the model that made the list.
    taken = ids(coffee)[0]
    click = shop.track("coffee-lover-0", "click", taken, time.time(), recommendation_id=coffee["recommendation_id"], position=0)
    stack.post("ingestion", "/v1/track", click)

    def reported() -> dict[str, Any] | None:
        report = stack.get("monitoring", "/v1/reports/quality", hours=1)
        rows = [row for row in report["by_model"] if row["model_version"] == version]
        return rows[0] if rows and rows[0]["click_through"]["count"] else None

    row = wait_for(reported, "the click to appear in the report", 30)
    assert row["shown"] >= 2
    assert row["click_through"]["value"] == row["click_through"]["count"] / row["shown"]


def _more_coffee(stack: Stack, before: int) -> dict[str, Any] | None:
    answer = recommended(stack, "tea-lover-0")
    return answer if kinds(answer).count("coffee") > before else None


def test_a_service_that_was_killed_is_started_again(stack: Stack) -> None:
    killed = stack.children["features"]
    _kill(killed)
    wait_for(lambda: stack.children.get("features", killed) != killed, "a new process")
    wait_for(lambda: stack.get("features", "/health/ready")["status"] == "ready", "features to be ready", 60)


def test_a_broker_that_was_killed_is_started_again_and_events_flow(stack: Stack) -> None:
    before = stack.get("features", "/v1/status")["lake"]["interactions"]
    broker = next(pid for name, pid in stack.children.items() if name.startswith("tansu"))
    _kill(broker)
    event = shop.track("late-visitor", "view", "tea-1", time.time())
    wait_for(lambda: stack.post("ingestion", "/v1/batch", {"batch": [event]})["accepted"] == 1, "ingestion to accept", 60)
    wait_for(
        lambda: stack.get("features", "/v1/features/visitor/late-visitor")["features"]["history_length"] >= 1,
        "features to take in an event from the new broker",
        60,
    )
    wait_for(lambda: stack.get("features", "/v1/status")["lake"]["interactions"] > before, "the lake to grow", 60)


def test_stop_leaves_no_process_and_a_second_start_goes_on(stack: Stack) -> None:
    """Last, since it ends the module's stack."""
    rows = stack.get("features", "/v1/status")["lake"]["interactions"]
    version = stack.get("training", "/v1/aliases/champion")["version"]
    before = list(stack.children.values())
    assert len(before) >= 7
    assert stack.stop() == 0
    assert alive(before) == []

    with running(stack.directory) as again:
        assert again.get("features", "/v1/status")["lake"]["interactions"] == rows
        wait_for(lambda: again.get("serving", "/v1/model")["version"] == version, "the model to be there again")
        answer = wait_for(lambda: _by_model(again), "an answer from the model", 20)
        assert kinds(answer).count("coffee") >= SHOWN - 1
        # Killed outright, the supervisor takes its children along: the kernel sees to it.
        orphans = list(again.children.values())
        again.process.kill()
        again.process.wait()
        wait_for(lambda: alive(orphans) == [], "the children to be gone", 10)


def _by_model(stack: Stack) -> dict[str, Any] | None:
    answer = recommended(stack, "coffee-lover-1")
    return answer if answer["answered_by"] == "model" else None


def _kill(pid: int) -> None:

    os.kill(pid, signal.SIGKILL)
