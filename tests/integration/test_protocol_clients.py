"""Clients of the Open Inference Protocol, as they come from the registry, against a serving."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.serving.app import create_app
from services.serving.settings import ServingSection, ServingSettings
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import HttpSettings, KafkaSettings, PeerSettings, RedisSettings
from tests.integration import test_serving
from tests.integration.client_environments import needs_environment, run_client
from tests.integration.test_serving import remember, running
from tests.waiting import until

TOKEN = "a-token-of-this-test"


bundle, training, training_url = (
    test_serving.bundle,
    test_serving.training,
    test_serving.training_url,
)


@pytest.fixture
def address(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    training_url: str,
    namespace: str,
    tmp_path: Path,
) -> Iterator[str]:
    """Host and port of a guarded serving with a trained bundle and one known visitor."""
    ensure_topics(broker, namespace)
    remember(redis_settings, namespace, "ada", "item-03", "item-04")
    settings = ServingSettings(
        namespace=namespace,
        kafka=broker,
        redis=redis_settings,
        http=HttpSettings(port=0, api_token=TOKEN),
        peers=PeerSettings(training_url=training_url),
        # A busy machine is no store that does not answer.
        serving=ServingSection(
            cache_dir=tmp_path / "cache", champion_poll_s=600, redis_timeout_s=10
        ),
    )
    with running(create_app(settings)) as url:
        key = {"Authorization": f"Bearer {TOKEN}"}
        ready = f"{url}/v2/health/ready"
        until(lambda: httpx.get(ready, headers=key, timeout=30).status_code == 200)
        yield url.removeprefix("http://")


@pytest.mark.parametrize(
    "client", [pytest.param(name, marks=needs_environment(name)) for name in ("triton", "kserve")]
)
def test_the_unmodified_client_works(
    address: str, client: str, request: pytest.FixtureRequest
) -> None:
    run_client(client, request, address, TOKEN)
