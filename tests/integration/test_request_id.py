"""One request id, from the HTTP call through Kafka to what its consumers tell."""

from fastapi.testclient import TestClient

from services.features.app import create_app
from services.features.settings import FeaturesSection, FeaturesSettings
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.topics import FEATURE_UPDATES, INTERACTIONS, Topic
from tests.integration.test_ingestion import AUTH, ingestion, records, track


def test_request_id_is_on_the_interaction_and_on_the_feature_update_that_follows(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
) -> None:
    own = FeaturesSection(lake_flush_s=0.2)
    features = create_app(
        FeaturesSettings(
            kafka=broker,
            redis=redis_settings,
            lake=lake_settings,
            namespace=namespace,
            features=own,
        )
    )

    def ids(topic: Topic, count: int) -> list[tuple[str, str]]:
        return sorted(
            (message.key, message.request_id)
            for message in records(broker, namespace, topic, count)
        )

    calls = [("r-ada", track("ada", "a", "m-0")), ("r-bob", track("bob", "b", "m-1"))]
    with ingestion(broker, namespace) as shop, TestClient(features):
        for rid, event in calls:
            assert (
                shop.post(
                    "/v1/track", json=event, auth=AUTH, headers={"X-Request-Id": rid}
                ).status_code
                == 200
            )
        assert ids(INTERACTIONS, 2) == [("ada", "r-ada"), ("bob", "r-bob")]
        assert ids(FEATURE_UPDATES, 2) == [("ada", "r-ada"), ("bob", "r-bob")]


def test_feature_update_of_a_backlog_has_the_request_id_of_the_visitors_newest_event(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
) -> None:
    with ingestion(broker, namespace) as shop:
        for number in range(3):
            sent = shop.post(
                "/v1/track",
                json=track("ada", "a", f"m-{number}"),
                auth=AUTH,
                headers={"X-Request-Id": f"r-{number}"},
            )
            assert sent.status_code == 200
    features = create_app(
        FeaturesSettings(
            kafka=broker, redis=redis_settings, lake=lake_settings, namespace=namespace
        )
    )
    with TestClient(features):
        updates = records(broker, namespace, FEATURE_UPDATES, 1)
    assert updates[-1].request_id == "r-2"
