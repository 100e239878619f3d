"""Erasures at monitoring, on a real broker: its rows go, an audit stays, receipts are made."""

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from services.monitoring.app import create_app
from services.monitoring.consumer import TOPICS
from services.monitoring.settings import MonitoringSection, MonitoringSettings
from slipstream.broker.log_ends import log_ends
from slipstream.broker.producer import Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.access.tokens import signed
from slipstream.chassis.settings import (
    AccessSettings,
    DatabaseSettings,
    HttpSettings,
    KafkaSettings,
    LakeSettings,
    PeerSettings,
)
from slipstream.contracts.access import Scope
from slipstream.contracts.events import CatalogRecord, ErasedVisitors, Interaction, Slate, SlateItem
from slipstream.contracts.late_records import new_erasure_id
from slipstream.contracts.rest import ErasureState
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import ERASED_VISITORS, INTERACTIONS, PEOPLE, RECOMMENDATIONS
from tests.integration.filled_lake import FilledLake
from tests.integration.test_monitoring import Peers, peers
from tests.waiting import until

__all__ = ["peers"]

ACCESS = AccessSettings(token_secret=SecretStr("s" * 40))


@pytest.fixture
def settings(
    broker: KafkaSettings,
    database_settings: DatabaseSettings,
    lake_settings: LakeSettings,
    namespace: str,
    peers: Peers,
) -> MonitoringSettings:
    urls = {
        f"{name}_url": peers.url
        for name in ("ingestion", "features", "training", "serving", "monitoring")
    }
    return MonitoringSettings(
        kafka=broker,
        database=database_settings,
        lake=lake_settings,
        namespace=namespace,
        http=HttpSettings(api_token=SecretStr("s3cret")),
        access=ACCESS,
        peers=PeerSettings(**urls, timeout_s=30),
        monitoring=MonitoringSection(check_interval_s=60, erase_every_s=0.1, count_every_s=0.1),
    )


@pytest.fixture
def producer(settings: MonitoringSettings) -> Iterator[Producer]:
    ensure_topics(settings.kafka, settings.namespace)
    made = Producer(settings.kafka, settings.namespace)
    yield made
    made.close()


@pytest.fixture
def lake(settings: MonitoringSettings) -> FilledLake:
    return FilledLake(settings.lake, settings.namespace)


def shown(producer: Producer, lake: FilledLake, visitor: str, number: str = "") -> None:
    """A slate of the visitor, and the click that followed, by a clock that is an hour slow."""
    at = now_ms() - 3_600_000
    slate = Slate(
        recommendation_id=f"r-{visitor}{number}",
        user_id=visitor,
        timestamp=at,
        items=[SlateItem(item_id="i1", score=1.0, source="a")],
        answered_by="model",
    )
    click = Interaction(
        event_id=f"e-{visitor}{number}",
        event_type="click",
        user_id=visitor,
        item_id="i1",
        recommendation_id=slate.recommendation_id,
        timestamp=at + 5,
        received_at=at,
    )
    producer.send(RECOMMENDATIONS, visitor, slate)
    producer.send(INTERACTIONS, visitor, click)
    lake.take([slate, click])


def bearer(*scopes: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {signed(ACCESS, 'auditor', list(scopes), 300)}"}


@pytest.mark.servers("real")  # it takes ten seconds
def test_rows_go_once_everything_before_the_cut_is_read_and_the_audit_names_who_asked(
    settings: MonitoringSettings, producer: Producer, lake: FilledLake, peers: Peers
) -> None:
    erasure_id = new_erasure_id(now_ms())
    path = f"/v1/erasures/{erasure_id}"
    with TestClient(create_app(settings), headers=bearer(Scope.READ)) as client:
        on_its_way = client.get(path)
        assert (on_its_way.status_code, on_its_way.json()["state"]) == (202, "requested")
        assert on_its_way.json()["asked_at"] is None
        _refuses(client, path)
        peers.answers[path] = (503, {})
        away = client.get(path)
        assert away.status_code == 503 and "features" in away.json()["detail"]
        del peers.answers[path]
        unknown = client.get("/v1/erasures/e-1")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "no_erasure")

        request = CatalogRecord(
            entity="user",
            entity_id="olga",
            deleted=True,
            timestamp=now_ms(),
            source="shop",
            erasure_id=erasure_id,
            cut={"people.v1": {}},
        )
        for _ in range(2):  # A record that is read again has its effect once.
            producer.send(PEOPLE, f"erasure:{erasure_id}", request, "req-1")
        producer.flush(30)
        until(lambda: client.get(path).json()["asked_at"] == request.timestamp)
        assert client.get(path).status_code == 202

        done = ErasureState(
            erasure_id=erasure_id, erased_at=now_ms(), files_left=0, redis_written_at=now_ms() + 9
        )
        peers.answers[path] = (200, done.model_dump())
        before = {"versions": [], "runs": [], "deleted_by": 9}
        peers.answers["/v1/models:before-erasure"] = (200, before)
        for visitor in ("olga", "phone", "bo"):
            shown(producer, lake, visitor)
        producer.flush(30)

        def counted() -> list[tuple[int, int]]:
            found = client.get("/v1/reports/quality").json()["by_model"]
            return [(it["slates"], it["click_through"]["count"]) for it in found]

        until(lambda: counted() == [(3, 3)])
        cut = log_ends(settings.kafka, settings.namespace, [INTERACTIONS, RECOMMENDATIONS])
        for visitors, last in ((["olga"], False), (["phone"], True)):
            told = ErasedVisitors(
                erasure_id=erasure_id,
                visitor_ids=visitors,
                cut=cut,
                last=last,
                asked_at=request.timestamp,
                slates_until=request.timestamp,
            )
            producer.send(ERASED_VISITORS, erasure_id, told)
        producer.flush(30)

        def monitoring() -> dict[str, object]:
            places = client.get(path).json()["places"]
            return next(place for place in places if place["place"] == "monitoring")

        until(lambda: bool(monitoring()["done"]))
        assert str(monitoring()["detail"]).startswith("rows deleted: 6. ")
        receipt = client.get(path)
        assert (receipt.status_code, receipt.json()["state"]) == (200, "erased")
        waits = {it["place"] for it in receipt.json()["places"] if not it["done"]}
        assert waits == {"caches", "late records", "logs"}

        audit = client.get("/v1/audit", headers=bearer(Scope.ADMIN)).json()["items"]
        assert [
            (it["principal"], it["action"], it["subject"], it["at"], it["request_id"], it["detail"])
            for it in audit
            if it["principal"] != "monitoring"  # which ships rules of alerts
        ] == [("shop", "erase_user", erasure_id, request.timestamp, "req-1", {})]
        # Names that no hexadecimal id can hold.
        for told_of in (receipt.text, str(audit)):
            assert "olga" not in told_of and "phone" not in told_of
        assert counted() == [(3, 3)], "counts stay"

        # Made before the erasure, and read after its rows were deleted.
        for visitor in ("olga", "phone", "bo"):
            shown(producer, lake, visitor, "-late")
        producer.flush(30)

        def kept() -> list[str]:
            body = {"ids": ["olga", "phone", "bo"]}
            lines = client.post("/v1/visitors:export", json=body, headers=bearer(Scope.ADMIN)).text
            return [json.loads(line)["user_id"] for line in lines.splitlines()]

        until(lambda: len(kept()) >= 4)
        assert set(kept()) == {"bo"}


def _refuses(client: TestClient, path: str) -> None:
    """Receipts and audit are for those with the scope."""
    for asked, headers, status in (
        (path, {"Authorization": ""}, 401),
        (path, bearer(Scope.OPERATE), 403),
        ("/v1/audit", bearer(Scope.READ), 403),
    ):
        assert client.get(asked, headers=headers).status_code == status


def test_what_monitoring_keeps_of_visitors_is_exported(
    settings: MonitoringSettings, producer: Producer, lake: FilledLake
) -> None:
    path, ids = "/v1/visitors:export", {"ids": ["olga", "phone"], "kind": "visitor"}
    with TestClient(create_app(settings), headers=bearer(Scope.ADMIN)) as client:

        def lines() -> list[dict[str, object]]:
            return [json.loads(line) for line in client.post(path, json=ids).text.splitlines()]

        for visitor in ("phone", "olga", "bo"):
            shown(producer, lake, visitor)
        producer.flush(30)
        # Each has a sample of two open windows, and a credit.
        until(lambda: len(lines()) == 6)
        sample, *_, credit, _ = lines()
        assert (sample["kind"], sample["user_id"]) == ("sample", "olga")
        told = (credit["kind"], credit["event_id"], credit["recommendation_id"])
        assert told == ("click", "e-olga", "r-olga")
        assert client.post(path, json={"ids": []}).text == ""
        reader = bearer(Scope.READ, Scope.OPERATE)
        assert client.post(path, json=ids, headers=reader).status_code == 403


def test_monitoring_reads_the_topics_of_erasures() -> None:
    assert {PEOPLE, ERASED_VISITORS} <= set(TOPICS)
