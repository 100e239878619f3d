"""Feast's SDK, as it comes from the registry, reads from features."""

from pathlib import Path

import pytest

from services.features.app import create_app
from services.features.settings import FeaturesSection, FeaturesSettings
from slipstream.broker.producer import Producer
from slipstream.chassis.settings import HttpSettings, KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.times import now_ms
from tests.integration.client_environments import needs_environment, run_client
from tests.integration.running_materializer import steady
from tests.integration.shop_stream import send, send_entries
from tests.integration.test_serving import running

TOKEN = "a-token-of-this-test"


@needs_environment("feast")
def test_feasts_sdk_reads(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    settings = FeaturesSettings(
        kafka=broker,
        redis=redis_settings,
        lake=lake_settings,
        namespace=namespace,
        http=HttpSettings(port=0, api_token=TOKEN),
        features=FeaturesSection(lake_flush_s=0.2),
    )
    now = now_ms()
    did = [("ada", "view", "kettle"), ("ada", "purchase", "kettle"), ("bob", "search", None)]
    producer = Producer(broker, namespace)
    entry = {"category": "kitchen", "price": 19.9}
    send_entries(
        producer,
        [CatalogRecord(entity="item", entity_id="kettle", attributes=entry, timestamp=now)],
    )
    send(
        producer,
        [
            Interaction(
                event_id=kind, event_type=kind, user_id=user, item_id=item,
                timestamp=now - 60_000 * (3 - number), received_at=now,
            )
            for number, (user, kind, item) in enumerate(did)
        ],
    )  # fmt: skip
    producer.close()
    with running(create_app(steady(settings))) as url:
        run_client("feast", request, url, TOKEN, tmp_path)
