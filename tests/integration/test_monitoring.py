"""The monitoring service on a real broker and SQLite: slates and interactions in, reports and
alerts out.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.monitoring.app import create_app
from services.monitoring.item_attributes import ItemCatalogue
from services.monitoring.sampling import Sampler
from services.monitoring.settings import MonitoringSection, MonitoringSettings
from services.monitoring.window_repository import WindowLog
from services.monitoring.windows import fold
from slipstream.broker.consumer import Consumer
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.broker.records import encode
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.access.tokens import signed
from slipstream.chassis.settings import (
    AccessSettings,
    DatabaseSettings,
    KafkaSettings,
    LakeSettings,
    PeerSettings,
)
from slipstream.contracts.access import Scope
from slipstream.contracts.circumstances import RecordedHistory
from slipstream.contracts.events import (
    AlertEvent,
    FeatureUpdate,
    Interaction,
    ModelEvent,
    ModelEventType,
    Record,
    Slate,
    SlateItem,
)
from slipstream.contracts.slates import read_slate
from slipstream.contracts.topics import (
    ALERTS,
    FEATURE_UPDATES,
    INTERACTIONS,
    MODEL_EVENTS,
    RECOMMENDATIONS,
    Topic,
)
from slipstream.evaluation.drift_findings import Window
from slipstream.stores.metadata import engine
from tests.integration.filled_lake import FilledLake
from tests.unit.monitoring.recorded_slates import history_of
from tests.waiting import eventually

MODEL = {"version": "4", "aliases": ["champion"], "created_at": 1, "metrics": {"ndcg@10": 0.12}}


class Peers:
    """The other four services in one HTTP server that answers what a test puts into `answers`."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {
            "/health/ready": (200, {"status": "ready", "checks": {}, "started_at": 0}),
            "/v1/runs": (200, {"items": [], "next_cursor": None}),
            "/v1/aliases/champion": (200, MODEL),
            "/v1/status": (
                200,
                {"applied": 1, "lag": 0, "lake": {}, "watermark": 1, "caught_up": True},
            ),
        }
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answers.get(self.path.split("?")[0], (404, {"code": "not_found"}))
                encoded = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output to itself."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def peers() -> Iterator[Peers]:
    served = Peers()
    yield served
    served.close()


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a webhook, and the messages that it gets."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output to itself."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    server.server_close()


@pytest.fixture
def settings(
    broker: KafkaSettings,
    database_settings: DatabaseSettings,
    lake_settings: LakeSettings,
    namespace: str,
    peers: Peers,
) -> MonitoringSettings:
    """Monitoring with quick checks. It asks the stand-in for its own state too, since a test client
    listens on no port.
    """
    urls = {
        f"{name}_url": peers.url
        for name in ("ingestion", "features", "training", "serving", "monitoring")
    }
    # The last window ended one to five minutes ago: sums of a newer one are not whole yet.
    window_s = next(each for each in range(600, 2_000) if 70 <= time.time() % each <= 300)
    section = MonitoringSection(
        check_interval_s=0.1,
        count_every_s=0.1,
        failing_checks_to_open=2,
        passing_checks_to_close=2,
        drift_min_visitors=200,
        drift_window_s=window_s,
        fault_window_s=window_s,
        drift_season_s=window_s,
        probe_timeout_s=30,  # a busy machine is no peer that is away
    )
    return MonitoringSettings(
        namespace=namespace,
        kafka=broker,
        database=database_settings,
        lake=lake_settings,
        peers=PeerSettings(**urls),
        monitoring=section,
    )


@pytest.fixture
def publish(
    settings: MonitoringSettings,
) -> Iterator[Callable[[Sequence[tuple[Topic, str, Record]]], None]]:
    ensure_topics(settings.kafka, settings.namespace)
    producer = Producer(settings.kafka, settings.namespace)
    lake = FilledLake(settings.lake, settings.namespace)

    def published(records: Sequence[tuple[Topic, str, Record]]) -> None:
        publish_records(producer, records)
        lake.take([record for _, _, record in records])

    yield published
    producer.close()


def publish_records(producer: Producer, records: Sequence[tuple[Topic, str, Record]]) -> None:
    asyncio.run(producer.publish([OutgoingRecord(*each) for each in records]))


@contextmanager
def running(settings: MonitoringSettings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def slate(
    number: int, *, version: str = "4", history: str = "a", at: int | None = None
) -> tuple[Topic, str, Record]:
    at = at or now_ms()
    events = history_of(history[: 1 + number % len(history)], at - 1_000 * (number + 1))
    record = Slate(
        recommendation_id=f"slate-{number}",
        user_id=f"user-{number}",
        timestamp=at,
        items=[SlateItem(item_id=item, score=1.0, source="ease") for item in ("a", "b", "c")],
        answered_by="model",
        model_version=version,
        circumstances={
            "form": 1,
            "now": at,
            "n": 3,
            "steps": ["model"],
            "history": RecordedHistory.columns(events),
        },
    )
    return RECOMMENDATIONS, record.user_id, record


def click(
    number: int, event_type: str = "click", *, named: bool = True
) -> tuple[Topic, str, Record]:
    record = Interaction(
        event_id=f"{event_type}-{number}",
        event_type=event_type,
        user_id=f"user-{number}",
        item_id="b",
        timestamp=now_ms(),
        received_at=now_ms(),
        recommendation_id=f"slate-{number}" if named else None,
    )
    return INTERACTIONS, record.user_id, record


def by_version(client: TestClient) -> dict[str, tuple[int, int, int]]:
    """Version → slates, clicked, converted, as the lake is counted."""
    report = client.get("/v1/reports/quality").json()
    return {
        row["model_version"]: (
            row["slates"],
            row["click_through"]["count"],
            row["conversion"]["count"],
        )
        for row in report["by_model"]
    }


@pytest.mark.servers("real")  # it takes ten seconds
def test_report_after_a_restart_amid_a_stream_counts_everything_once(
    settings: MonitoringSettings, publish: Callable[[Sequence[tuple[Topic, str, Record]]], None]
) -> None:
    versions = {number: "3" if number % 2 else "4" for number in range(60)}
    slates = [slate(number, version=version) for number, version in versions.items()]
    # Clicks on every third slate, before half of the slates are there; half of them do not name the
    # slate.
    clicks = [click(number, named=number % 2 == 0) for number in range(0, 60, 3)]
    with running(settings) as client:
        publish([*slates[:30], *clicks])
        eventually(
            lambda: by_version(client), lambda counts: counts == {"3": (15, 5, 0), "4": (15, 5, 0)}
        )
    publish(slates[30:45])
    with running(settings) as client:
        # Delivered again, as after a consumer that died before it committed.
        publish([*slates, *clicks, click(0, "purchase"), click(59, "cart")])
        expected = {"3": (30, 10, 1), "4": (30, 10, 1)}
        eventually(lambda: by_version(client), lambda counts: counts == expected)
        publish([slate(1_000, version="end")])
        eventually(lambda: by_version(client), lambda counts: "end" in counts)
        assert by_version(client) == expected | {"end": (1, 0, 0)}


def test_shifted_visitors_open_an_alert_on_the_topic_that_asks_for_a_run(
    settings: MonitoringSettings,
    publish: Callable[[Sequence[tuple[Topic, str, Record]]], None],
) -> None:
    length = settings.monitoring.drift_window_s * 1000
    end = now_ms() - now_ms() % length

    def slates(history: str, start: int) -> list[tuple[Topic, str, Record]]:
        return [slate(number, history=history, at=start + number) for number in range(300)]

    def window(history: str, start: int) -> Window:
        sampler = Sampler((length,), 1_000, ItemCatalogue())
        taken = sampler.take(read_slate(encode(each)) for _, _, each in slates(history, start))
        return fold(start, length, [(it.visitor, it.share, it.body) for it in taken], None)

    listener = Consumer(settings.kafka, settings.namespace, (ALERTS,), None)
    told: list[AlertEvent] = []

    def hear() -> list[AlertEvent]:
        told.extend(message.record for message in listener.poll(0.1).messages)
        return [event for event in told if event.rule == "feature_drift"]

    try:
        with running(settings) as client:
            database = engine(settings.database)
            for back, history in ((3, "abcde"), (2, "abxyz")):
                WindowLog(database).add(window(history, end - back * length))
            database.dispose()
            publish(slates("abxyz", end - length))
            eventually(lambda: by_version(client), lambda counts: counts == {"4": (300, 0, 0)})
            publish([slate(1_000, history="a")])  # the window has ended
            (opened,) = eventually(hear, bool)
            assert (opened.state, opened.action, opened.hold) == ("opened", "retrain", False)
            assert set(opened.evidence["psi"]) == {"items"}
            assert opened.evidence["visitors"] == 300
            (alert,) = client.get("/v1/alerts", params={"state": "open"}).json()["items"]
            assert (alert["alert_id"], alert["state"], alert["action"]) == (
                opened.alert_id,
                "open",
                "retrain",
            )
            drift = client.get("/v1/reports/drift").json()
            worst = drift["shifts"]["features"][0]
            assert (worst["feature"], worst["kind"], worst["lasting"]) == ("items", "shift", True)
            assert drift["faults"]["judged"]
            assert drift["faults"]["faults"] == []
    finally:
        listener.close()


def test_overview_services_and_metrics_tell_what_the_checks_found(
    settings: MonitoringSettings,
    publish: Callable[[Sequence[tuple[Topic, str, Record]]], None],
    peers: Peers,
) -> None:
    peers.answers["/health/ready"] = (
        503,
        {"status": "unready", "checks": {"redis": "no answer within 2 s"}, "started_at": 0},
    )
    event = ModelEvent(event=ModelEventType.PROMOTED, version="4", previous="3", timestamp=5)
    update = FeatureUpdate(view="visitor", entity_id="u", features={}, watermark=7, updated_at=9)
    publish(
        [(MODEL_EVENTS, "recommender", event), (FEATURE_UPDATES, "u", update), slate(1), click(1)]
    )
    with running(settings) as client:
        overview = eventually(
            lambda: client.get("/v1/overview").json(),
            lambda body: (
                body.get("model_events") and body["snapshot"]["freshness"]["last_update_at"] == 9
            ),
        )
        assert overview["model_events"][0]["version"] == "4"
        assert overview["snapshot"]["training"]["champion"]["model"]["metrics"] == {"ndcg@10": 0.12}
        assert overview["snapshot"]["freshness"]["features_watermark"] == 7
        services = client.get("/v1/services").json()["items"]
        assert {service["name"]: service["state"] for service in services} == dict.fromkeys(
            ("ingestion", "features", "training", "serving", "monitoring"), "unready"
        )
        metrics = client.get("/metrics").text
        assert 'slipstream_service_up{name="serving"} 0.0' in metrics
        eventually(
            lambda: client.get("/metrics").text,
            lambda text: 'slipstream_click_through_ratio{model_version="4"} 1.0' in text,
        )
        names = "kafka database stream consumer checks lease access-keys placements experiments"
        names += " erasures canaries catalogue"
        eventually(
            lambda: client.get("/health/ready").json()["checks"],
            lambda checks: checks == dict.fromkeys(names.split(), "ok"),
        )


@pytest.mark.servers("real")  # it takes ten seconds
def test_a_rule_of_rest_judges_what_is_measured_and_its_alert_reaches_a_webhook(
    settings: MonitoringSettings,
    publish: Callable[[Sequence[tuple[Topic, str, Record]]], None],
    webhook: tuple[str, list[dict[str, Any]]],
) -> None:
    url, got = webhook
    section = settings.monitoring.model_copy(update={"notify_urls": SecretStr(url)})
    publish([*(slate(number) for number in range(10)), *(click(number) for number in range(8))])
    with running(settings.model_copy(update={"monitoring": section})) as client:
        eventually(lambda: by_version(client), lambda counts: counts == {"4": (10, 8, 0)})

        def readings() -> dict[str, Any]:
            report = client.get("/v1/alert-metrics").json()
            return {it["metric"]: it["readings"] for it in report.get("items", ())}

        eventually(readings, lambda found: found.get("click_through"))
        report = client.get("/v1/reports/quality", params={"hours": 1}).json()
        expected = report["by_model"][0]["click_through"]
        (measured,) = readings()["click_through"]
        assert (measured["of"], measured["value"], measured["low"], measured["samples"]) == (
            *("4", expected["value"], expected["low"]),
            10,
        )
        rule = {"metric": "click_through", "comparison": "above", "threshold": 0.3}
        rule |= {"least_samples": 10, "for_minutes": 0, "runbook": "Call the shop."}
        assert client.put("/v1/alert-rules/many-clicks", json=rule).status_code == 201

        opened, closed = "many-clicks opened (warning)", "many-clicks closed (warning)"
        eventually(lambda: deliveries_of(got), lambda titles: titles == [opened])
        assert client.delete("/v1/alert-rules/many-clicks").status_code == 200
        eventually(lambda: deliveries_of(got), lambda titles: titles == [opened, closed])
    assert "Call the shop." in got[0]["message"]
    assert "80.0%, above 30.0%" in got[0]["message"]


def deliveries_of(got: list[dict[str, Any]]) -> list[str]:
    """The titles that a webhook got, without the stack's name."""
    return [it["title"].partition(": ")[2] for it in got]


@pytest.mark.parametrize(("scope", "missing"), [("read", ["audit"]), ("admin", [])])
def test_the_timeline_tells_what_people_changed_to_those_who_may_read_it(
    settings: MonitoringSettings, scope: str, missing: list[str]
) -> None:
    access = AccessSettings.model_validate({"token_secret": "s" * 32})
    settings = settings.model_copy(update={"access": access})

    def as_one_with(*scopes: str) -> dict[str, str]:
        token = signed(access, "ops", [Scope(each) for each in scopes], 600)
        return {"Authorization": f"Bearer {token}"}

    with running(settings) as client:
        headers = as_one_with("admin", "operate")
        assert client.put("/v1/placements/home", json={}, headers=headers).status_code == 201
        page = client.get("/v1/timeline", headers=as_one_with("read", scope)).json()
        told = [it["summary"] for it in page["items"] if it["kind"] == "audit"]
        assert told == [] if missing else ["set placement home, by ops"]
        assert [it["part"] for it in page["missing"]] == missing


def test_alerts_page_by_cursor_and_refuse_a_foreign_one(
    settings: MonitoringSettings,
    publish: Callable[[Sequence[tuple[Topic, str, Record]]], None],
    peers: Peers,
) -> None:
    # A model has been in service, and is no longer.
    promoted = ModelEvent(event=ModelEventType.PROMOTED, version="4", timestamp=now_ms())
    publish([(MODEL_EVENTS, "recommender", promoted)])
    peers.answers["/health/ready"] = (500, {})
    peers.answers["/v1/aliases/champion"] = (404, {"code": "no_model"})
    with running(settings) as client:
        eventually(lambda: client.get("/v1/alerts").json()["items"], lambda items: len(items) == 2)
        first = client.get("/v1/alerts", params={"limit": 1}).json()
        second = client.get(
            "/v1/alerts", params={"limit": 1, "cursor": first["next_cursor"]}
        ).json()
        assert {first["items"][0]["rule"], second["items"][0]["rule"]} == {
            "service_down",
            "no_champion",
        }
        assert second["next_cursor"] is None
        assert client.get("/v1/alerts", params={"state": "closed"}).json()["items"] == []
        path = f"/v1/alerts/{first['items'][0]['alert_id']}:acknowledge"
        body = client.post(path, json={"note": "known"}).json()
        assert (body["state"], body["acknowledged"]["note"]) == ("open", "known")
        assert client.get(body["runbook"]).text.startswith(f"# {body['rule']}\n")
        listed = client.get("/v1/alerts").json()["items"]
        notes = [it["acknowledged"] and it["acknowledged"]["note"] for it in listed]
        assert notes == ["known", None]
        unknown = client.post("/v1/alerts/none:acknowledge")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "no_alert")
        crafted = base64.urlsafe_b64encode(f"{1 << 63}:x".encode()).decode()
        for cursor in ("not one of ours", crafted):
            refused = client.get("/v1/alerts", params={"cursor": cursor})
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")


def test_timeline_pages_over_alerts_runs_and_models_and_does_without_training(
    settings: MonitoringSettings,
    publish: Callable[[Sequence[tuple[Topic, str, Record]]], None],
    peers: Peers,
) -> None:
    now = now_ms()
    run = {"run_id": "4", "state": "succeeded", "trigger": "request", "created_at": now}
    peers.answers["/v1/runs"] = (200, {"items": [run], "next_cursor": None})
    event = ModelEvent(
        event=ModelEventType.PROMOTED, version="4", previous="3", reason="better", timestamp=now + 1
    )
    publish([(MODEL_EVENTS, "recommender", event), slate(1), click(1)])

    def told(**parameters: Any) -> Any:
        return client.get("/v1/timeline", params=parameters).json()

    with running(settings) as client:
        page = eventually(told, lambda page: len(page.get("items", ())) == 2)
        assert [entry["entry_id"] for entry in page["items"]] == ["model:4:promoted", "run:4"]
        assert (page["items"][0]["decided_by"], page["items"][0]["because"]) == ("gate", ["run:4"])
        eventually(lambda: told()["items"][0]["click_through"]["after"]["count"], bool)
        first = told(limit=1)
        assert told(limit=1, cursor=first["next_cursor"])["items"] == page["items"][1:]
        refused = client.get("/v1/timeline", params={"cursor": "not one of ours"})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")
        peers.answers["/v1/runs"] = (500, {"code": "broken"})
        page = told()
        assert [entry["kind"] for entry in page["items"]] == ["model"]
        assert page["missing"][0]["part"] == "runs" and "500" in page["missing"][0]["reason"]
