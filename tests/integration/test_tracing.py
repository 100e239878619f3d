"""One trace, from the HTTP call through Kafka to its consumer, as a collector receives it."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from bench.otlp_receiver import receiving
from services.features.app import create_app as create_features
from services.features.settings import FeaturesSection, FeaturesSettings
from services.ingestion.app import create_app as create_ingestion
from services.ingestion.settings import IngestionSection, IngestionSettings
from slipstream.broker.records import Message
from slipstream.chassis import tracing as module
from slipstream.chassis.settings import (
    KafkaSettings,
    LakeSettings,
    RedisSettings,
    TracingSettings,
)
from slipstream.contracts.topics import FEATURE_UPDATES, INTERACTIONS
from tests.integration.test_ingestion import AUTH, records, track

# Of a client that traces its own calls.
TRACE_ID, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CONSUMER = 2, 5


def test_a_trace_goes_from_the_client_over_ingestion_and_kafka_to_features(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_DELAY_MS", 20)
    with receiving() as receiver:
        shared = {
            "kafka": broker,
            "redis": redis_settings,
            "namespace": namespace,
            "tracing": TracingSettings(otlp_url=receiver.url, share=0),
        }
        ingestion = create_ingestion(
            IngestionSettings(
                **shared, ingestion=IngestionSection(write_keys=SecretStr("shop:s3cret"))
            )
        )
        features = create_features(
            FeaturesSettings(
                **shared, lake=lake_settings, features=FeaturesSection(lake_flush_s=0.2)
            )
        )
        with TestClient(ingestion) as shop, TestClient(features):
            for visitor, trace in (
                ("bob", {"traceparent": f"00-{TRACE_ID}-{CLIENT_SPAN}-00"}),
                ("ada", {"traceparent": f"00-{TRACE_ID}-{CLIENT_SPAN}-01"}),
                ("eve", {}),
            ):
                event = track(visitor, "a", f"m-{visitor}")
                headers = {"X-Request-Id": f"r-{visitor}", **trace}
                assert shop.post("/v1/track", json=event, auth=AUTH, headers=headers).is_success
            received = receiver.named("ingestion", "POST /v1/track")
            consumed = receiver.named("features", f"process {INTERACTIONS.name}")
            sent = records(broker, namespace, INTERACTIONS, 3)
            updates = records(broker, namespace, FEATURE_UPDATES, 3)

    assert (received.trace_id, received.parent_id) == (TRACE_ID, CLIENT_SPAN)
    assert (received.kind, received.failed) == (SERVER, False)
    assert (consumed.trace_id, consumed.parent_id) == (TRACE_ID, received.span_id)
    assert (consumed.kind, consumed.failed) == (CONSUMER, False)
    assert received.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/track",
        "http.response.status_code": 200,
        "slipstream.request_id": "r-ada",
    }
    assert consumed.attributes["slipstream.request_id"] == "r-ada"
    assert consumed.attributes["messaging.batch.message_count"] == 1

    parts = {span.name: span for span in receiver.spans if span.parent_id == received.span_id}
    assert parts.keys() == {"admission", "delivery", consumed.name}
    admission, delivery = parts["admission"], parts["delivery"]
    assert admission.began_ns <= admission.ended_ns <= delivery.ended_ns
    assert abs(delivery.began_ns - admission.ended_ns) < 1_000, "one follows the other"
    assert len(receiver.spans) == 4, "the other requests are not traced"

    def places(messages: list[Message[Any]]) -> dict[str, str]:
        return {it.key: getattr(it.request_id, "traceparent", "") for it in messages}

    of_ada = f"00-{TRACE_ID}-{received.span_id}-01"
    assert places(sent) == {"ada": of_ada, "bob": "", "eve": ""}
    of_ada = f"00-{TRACE_ID}-{consumed.span_id}-01"
    assert places(updates) == {"ada": of_ada, "bob": "", "eve": ""}
