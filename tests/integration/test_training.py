"""The training service over HTTP, on a real broker, SQLite, MLflow and a lake: from a request to a
bundle that loads.
"""

import time
from pathlib import Path

import pytest

from services.training.settings import TrainingSettings
from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics
from slipstream.contracts.events import AlertEvent, Severity
from slipstream.contracts.topics import ALERTS, MODEL_EVENTS
from slipstream.recommender.bundle import load_bundle
from slipstream.recommender.stages import Event, recommend
from slipstream.stores.lake import Lake
from tests.integration.training_service import Settings, ended, running
from tests.unit.training.histories import START_MS, chain, write
from tests.waiting import until

# Visitors of a run that is still going on when a busy test comes to cancel it.
LONG = 5_000


def model_events(settings: TrainingSettings, count: int) -> list[tuple[str, str, str]]:
    consumer = Consumer(settings.kafka, settings.namespace, [MODEL_EVENTS], group=None)
    heard: list[tuple[str, str, str]] = []
    try:
        deadline = time.monotonic() + 60
        while len(heard) < count and time.monotonic() < deadline:
            heard += [
                (it.record.event.value, it.record.version, it.request_id)
                for it in consumer.poll(0.2).messages
            ]
    finally:
        consumer.close()
    return heard


@pytest.mark.servers("real")  # it takes ten seconds
def test_request_trains_promotes_and_offers_the_bundle_and_a_failed_one_leaves_it(
    make_settings: Settings, tmp_path: Path
) -> None:
    settings = make_settings()
    lake = Lake(settings.lake, settings.namespace)
    write(lake, chain())
    with running(settings) as client:
        missing = client.get("/v1/aliases/champion")
        assert (missing.status_code, missing.json()["code"]) == (404, "no_model")
        assert client.post("/v1/models:rollback").json()["code"] == "no_previous_champion"

        asked = client.post(
            "/v1/runs", json={"reason": "first"}, headers={"X-Request-Id": "r-first"}
        )
        assert (asked.status_code, asked.json()["state"]) == (202, "queued")
        run = ended(client, asked.json()["run_id"])
        assert (run["state"], run["decision"], run["error"]) == ("succeeded", "promoted", None), run

        version = run["model_version"]
        champion = client.get("/v1/aliases/champion").json()
        assert (champion["version"], champion["aliases"], champion["run_id"]) == (
            version,
            ["champion"],
            run["run_id"],
        )
        assert model_events(settings, 2) == [
            ("registered", version, "r-first"),
            ("promoted", version, "r-first"),
        ]
        steps = client.get(f"/v1/runs/{run['run_id']}/steps").json()["steps"]
        assert {step["state"] for step in steps} == {"succeeded"}
        of = {step["name"]: step for step in steps}
        assert of["snapshot"]["outputs"]["lake_version"] == run["lake_version"]
        assert of["evaluate"]["outputs"]["ndcg@10"] == run["metrics"]["ndcg@10"]
        computed = [of[name] for name in ("test", "snapshot", "train", "evaluate")]
        assert all(step["processor_s"] > 0 and step["device"] for step in computed), computed
        (audit,) = client.get(f"/v1/runs/{run['run_id']}/decisions").json()
        assert audit["outcome"] == "promoted"
        page = client.get(f"/v1/runs/{run['run_id']}/report")
        assert (
            page.headers["Content-Type"].startswith("text/html")
            and "default-src 'none'" in page.headers["Content-Security-Policy"]
        )
        assert (
            f"Training run {version}" in page.text and "there is no champion" in page.text.lower()
        )
        assert client.get("/v1/runs/none/report").json()["code"] == "no_run"

        fetched = tmp_path / "fetched"
        fetched.mkdir()
        for name in champion["files"]:
            (fetched / name).write_bytes(
                client.get(f"/v1/models/{version}/files/{name}").raise_for_status().content
            )
        history = [Event("i3", "view", START_MS), Event("i4", "view", START_MS + 1_000)]
        assert recommend(load_bundle(fetched), history, 1)[0].item_id == "i5"
        for name in ("..%2fmanifest.json", "%2e%2e%2f%2e%2e%2fmetadata.db", "absent.npy"):
            assert client.get(f"/v1/models/{version}/files/{name}").status_code == 404
        assert client.get("/v1/models/..%2f..%2fmodels/files/manifest.json").status_code == 404

        assert "slipstream_training_runs_total" in client.get("/metrics").text

    with running(make_settings(min_events=10_000)) as client:  # and what it knew is still there
        assert client.get("/v1/aliases/champion").json()["version"] == version
        failed = ended(client, client.post("/v1/runs").json()["run_id"])
        assert failed["state"] == "failed" and "too little data" in failed["error"]
        assert client.get("/v1/aliases/champion").json()["version"] == version


@pytest.mark.servers("real")  # it takes ten seconds
def test_stop_and_cancel_end_the_process_of_a_run(make_settings: Settings) -> None:
    settings = make_settings()
    write(Lake(settings.lake, settings.namespace), chain(visitors=LONG))
    with running(settings) as client:
        run_id = client.post("/v1/runs").json()["run_id"]
        until(
            lambda: client.get(f"/v1/runs/{run_id}").json()["stage"] != "", "the run did not begin"
        )
        assert client.post(f"/v1/runs/{run_id}:cancel").status_code == 202
        assert ended(client, run_id)["state"] == "cancelled"
        assert client.post(f"/v1/runs/{run_id}:cancel").json()["code"] == "run_ended"
        interrupted = client.post("/v1/runs").json()["run_id"]
        until(
            lambda: client.get(f"/v1/runs/{interrupted}").json()["stage"] != "",
            "the run did not begin",
        )
    with running(settings) as client:
        again, _cancelled = client.get("/v1/runs").json()["items"]
        assert (again["run_id"], again["attempt"]) == (interrupted, 2)
        assert "service stopped" in again["error"]
        until(
            lambda: client.get(f"/v1/runs/{interrupted}").json()["stage"] != "",
            "the run did not start again",
        )
        client.post(f"/v1/runs/{interrupted}:cancel")
        assert ended(client, interrupted)["state"] == "cancelled"


def test_alert_that_asks_for_retraining_starts_one_run(make_settings: Settings) -> None:
    settings = make_settings(new_events=0)  # the lake's events alone would start one, too
    write(Lake(settings.lake, settings.namespace), chain(visitors=LONG))
    ensure_topics(settings.kafka, settings.namespace)
    producer = Producer(settings.kafka, settings.namespace)
    with running(settings) as client:
        for action, rule in (("none", "lag"), ("retrain", "drift"), ("retrain", "drift")):
            alert = AlertEvent(
                alert_id=f"{rule}-1",
                rule=rule,
                severity=Severity.WARNING,
                state="opened",
                summary="views shifted",
                action=action,
                timestamp=START_MS,
            )
            producer.send(ALERTS, rule, alert)
        producer.flush()
        until(lambda: client.get("/v1/runs").json()["items"] != [], "the alert started no run")
        (run,) = client.get("/v1/runs").json()["items"]
        assert (run["trigger"], run["reason"]) == ("alert", "drift: views shifted")
        client.post(f"/v1/runs/{run['run_id']}:cancel")
        assert ended(client, run["run_id"])["state"] == "cancelled"
        assert len(client.get("/v1/runs").json()["items"]) == 1
    producer.close()
