"""Experiments over models, from monitoring's table to serving's answers and back, on a real
broker: a canary that returns by itself, and a shadow that is never shown.
"""

import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from slipstream.chassis.settings import DatabaseSettings, KafkaSettings
from slipstream.contracts.vocabulary import SHADOW
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from tests.integration.test_experiments import recorded
from tests.integration.test_placements import Serving, Stack
from tests.integration.test_serving import bundle, training, training_url
from tests.unit.serving.fakes import small_bundle
from tests.unit.serving.state.training_stub import TrainingStub
from tests.waiting import until

__all__ = ["bundle", "training", "training_url"]

PATH = "/v1/experiments/trial"
VARIANTS = [{"name": "as-now"}, {"name": "new", "model": "canary"}]


@pytest.fixture
def stack(
    broker: KafkaSettings, database_settings: DatabaseSettings, namespace: str, tmp_path: Path
) -> Stack:
    return Stack(broker, database_settings, namespace, tmp_path)


@pytest.fixture
def canary(training: TrainingStub) -> TrainingStub:
    """Training with the champion 1 and the canary 2."""
    training.register(small_bundle("2"), "2")
    training.canary = "2"
    return training


def ask(serving: Serving, visitor: str) -> Any:
    """The list of a visitor with a session that the model knows."""
    events = [{"item_id": "item-03"}, {"item_id": "item-04"}]
    body = {"anonymous_id": visitor, "events": events, "placement": "home", "n": 5}
    # All have the same session: a list that is kept would not ask the model again.
    headers = {"Cache-Control": "no-cache"}
    answer = serving.client.post("/v1/sessions:recommend", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def start(monitoring: TestClient, serving: Serving, kind: str, **more: Any) -> None:
    """Run the experiment, and wait until serving has its model."""
    design = {"placements": ["home"], "kind": kind, "variants": VARIANTS} | more
    assert monitoring.put("/v1/placements/home", json={}).status_code == 201
    put = monitoring.put(PATH, json=design)
    assert put.status_code == 201, put.text

    def has_models() -> bool:
        told = serving.client.get("/v1/model")
        held = {"model": "canary", "version": "2", "problem": ""}
        return told.status_code == 200 and told.json()["variants"] == [held]

    until(has_models, "the canary's model")


def failing(_: Any, **__: Any) -> Any:
    raise ValueError("broken")


def slow(answer: Callable[..., Any], **asked: Any) -> Any:
    time.sleep(0.06)
    return answer(**asked)


@pytest.mark.servers("real")  # it takes ten seconds
@pytest.mark.parametrize(("behave", "words"), [(failing, "it failed for"), (slow, " ms")])
def test_a_canary_that_fails_or_is_slow_is_returned(
    stack: Stack,
    canary: TrainingStub,
    training_url: str,
    monkeypatch: pytest.MonkeyPatch,
    behave: Callable[..., Any],
    words: str,
) -> None:
    sound = stages.answers

    def answers(bundle: Bundle, questions: Sequence[stages.ListQuestion]) -> Any:
        if bundle.manifest.version == "2":
            return behave(sound, bundle=bundle, questions=questions)
        return sound(bundle, questions)

    alert_soon = {"check_interval_s": 0.1, "failing_checks_to_open": 1}
    with (
        stack.monitoring(guard_every_s=0.1, **alert_soon) as monitoring,
        stack.serving(training_url=training_url) as serving,
    ):
        start(monitoring, serving, "canary", guard={"least_slates": 10})
        assert {ask(serving, f"early-{n}")["model_version"] for n in range(20)} == {"1", "2"}
        monkeypatch.setattr(stages, "answers", answers)
        asked = [ask(serving, f"visitor-{n}") for n in range(60)]
        assert all(len(answer["items"]) == 5 for answer in asked)
        further = count()

        def is_returned() -> bool:
            """More are asked meanwhile: a few slow answers of the control may hide the canary's."""
            ask(serving, f"further-{next(further)}")
            return bool(monitoring.get(PATH).json()["design"]["state"] == "stopped")

        until(is_returned, "the return")
        returned = monitoring.get(PATH).json()
        assert words in returned["design"]["stopped_because"]
        assert (returned["revision"], returned["changed_by"]) == (2, "monitoring")
        until(lambda: "experiment" not in ask(serving, "ada"), "the end of the experiment")
        assert {ask(serving, f"late-{n}")["model_version"] for n in range(20)} == {"1"}

        def alerts() -> list[Any]:
            open_ones: list[Any] = monitoring.get("/v1/alerts?state=open").json()["items"]
            return [it for it in open_ones if it["rule"] == "canary_returned"]

        until(lambda: bool(alerts()), "the alert")
        assert words in alerts()[0]["summary"]
        until(lambda: serving.client.get("/v1/model").json()["variants"] == [], "the release")
        of_canary = monitoring.get(f"{PATH}/results").json()["variants"][1]
        assert of_canary["models"].keys() == {"2"}
        assert bool(of_canary["substituted"]) == (behave is failing)


def test_a_shadow_is_logged_and_counted_nowhere_else(
    stack: Stack, canary: TrainingStub, training_url: str
) -> None:
    with (
        stack.monitoring() as monitoring,
        stack.serving(training_url=training_url) as serving,
    ):
        start(monitoring, serving, "shadow")
        shown = {ask(serving, f"visitor-{n}")["recommendation_id"]: n for n in range(12)}

        def results() -> Any:
            return monitoring.get(f"{PATH}/results").json()

        until(lambda: results()["shadow"]["compared"] == 12, "the shadows")
        shadow = results()["shadow"]
        assert (shadow["models"], shadow["overlap"]) == ({"2": 12}, 1.0)
        assert [(it["variant"], it["models"]) for it in results()["variants"]] == [
            ("as-now", {"1": 12}),
            ("holdout", {}),
        ]
        slates = [slate for slate in recorded(stack, 12).values() if slate.purpose == SHADOW]
        assert slates and all(slate.shadow_of in shown for slate in slates)
        assert not {slate.recommendation_id for slate in slates} & shown.keys()
