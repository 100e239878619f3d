"""Experiments from monitoring's table to the records of slates, on a real broker."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from services.features.history.archive import as_table, slate_row
from slipstream.broker.consumer import Consumer
from slipstream.broker.records import Message
from slipstream.chassis.settings import DatabaseSettings, KafkaSettings
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.slates import RecordedSlate
from slipstream.contracts.topics import RECOMMENDATIONS
from slipstream.slates.participation import assigned
from slipstream.stores import lake
from tests.integration.test_placements import Stack
from tests.unit.broker.scripted import SOURCE
from tests.waiting import until

DESIGN = {
    "placements": ["home"],
    "traffic": 0.6,
    "variants": [{"name": "as-now"}, {"name": "varied", "diversity": 0.5}],
}


@pytest.fixture
def stack(
    broker: KafkaSettings, database_settings: DatabaseSettings, namespace: str, tmp_path: Path
) -> Stack:
    return Stack(broker, database_settings, namespace, tmp_path)


def recorded(stack: Stack, n: int) -> dict[str, RecordedSlate]:
    """The slates on the topic by visitor, when there are `n`."""
    found: dict[str, RecordedSlate] = {}
    kafka, namespace = stack.common["kafka"], stack.common["namespace"]
    with closing(Consumer(kafka, namespace, [RECOMMENDATIONS], group=None)) as consumer:

        def read() -> bool:
            for message in consumer.poll(0.2).messages:
                found[message.record.user_id] = message.record
            return len(found) >= n

        until(read, f"{n} slates")
    return found


def archive(stack: Stack, slates: Iterable[RecordedSlate]) -> None:
    """Append slates to the lake, as features does."""
    messages = [Message(SOURCE, at, "", slate, "") for at, slate in enumerate(slates)]
    rows = as_table(lake.RECOMMENDATIONS, [slate_row(message) for message in messages])
    stored = lake.Lake(stack.lake, stack.common["namespace"])
    stored.append(lake.RECOMMENDATIONS, rows, {SOURCE: len(messages) - 1})


@pytest.mark.servers("real")  # it takes ten seconds
def test_what_is_put_in_monitoring_assigns_in_serving_and_is_in_the_slates_record(
    stack: Stack,
) -> None:
    visitors = [f"visitor-{number}" for number in range(20)]
    with stack.monitoring(count_every_s=0.1) as monitoring, stack.serving() as serving:
        assert monitoring.put("/v1/placements/home", json={}).status_code == 201
        put = monitoring.put("/v1/experiments/calmer", json=DESIGN)
        assert put.status_code == 201, put.text
        experiment = Experiment.model_validate(put.json())
        until(lambda: serving.experiments.get("calmer") is not None, "the experiment")
        answers: dict[str, Any] = {
            user_id: serving.client.get(
                f"/v1/recommendations/{user_id}", params={"placement": "home"}
            ).json()
            for user_id in visitors
        }
        for user_id, answer in answers.items():
            assert answer["experiment"] == "calmer"
            assert answer["variant"] == assigned(experiment, user_id)
        assert {answer["variant"] for answer in answers.values()} == {
            "holdout",
            "as-now",
            "varied",
        }
        slates = recorded(stack, len(visitors))
        for user_id, slate in slates.items():
            assert (slate.experiment, slate.variant) == ("calmer", answers[user_id]["variant"])
        results = "/v1/experiments/calmer/results"
        archive(stack, slates.values())
        until(lambda: monitoring.get(results).json()["from"] is not None, "slates in the results")
        found = monitoring.get(results).json()["variants"]
        assert sum(it["visitors"] for it in found) == len(visitors)
        stopped = DESIGN | {"state": "stopped"}
        assert monitoring.put("/v1/experiments/calmer", json=stopped).json()["revision"] == 2

        def is_plain() -> bool:
            answer = serving.client.get("/v1/recommendations/ada", params={"placement": "home"})
            return "experiment" not in answer.json()

        until(is_plain, "the end of the experiment")
        assert monitoring.delete("/v1/placements/home?force=true").status_code == 200

        def is_refused() -> bool:
            answer = serving.client.get("/v1/recommendations/ada", params={"placement": "home"})
            return answer.status_code == 422

        until(is_refused, "the placement that only an experiment names")
