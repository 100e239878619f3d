"""Feast's SDK, as it comes from the registry, reads from features and writes to it."""

from pathlib import Path

import pytest

from services.features.app import create_app
from services.features.settings import FeaturesSection, FeaturesSettings
from slipstream.chassis.settings import HttpSettings, KafkaSettings, LakeSettings, RedisSettings
from tests.integration.client_environments import needs_environment, run_client
from tests.integration.running_materializer import steady
from tests.integration.test_serving import running

TOKEN = "a-token-of-this-test"


@needs_environment("feast")
def test_feasts_sdk_reads_and_writes(
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
    with running(create_app(steady(settings))) as url:
        run_client("feast", request, url, TOKEN, tmp_path)
