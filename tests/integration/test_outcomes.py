"""Outcomes at monitoring, from a lake on disk and in the database of services."""

from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from services.monitoring.app import create_app
from services.monitoring.settings import MonitoringSection, MonitoringSettings
from slipstream.chassis.settings import DatabaseSettings, KafkaSettings, LakeSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.times import now_ms
from slipstream.stores.lake import INTERACTIONS, RECOMMENDATIONS, SCHEMAS, Lake
from slipstream.stores.lake_reader import day_of
from tests.waiting import eventually


@pytest.mark.servers("real")  # it takes ten seconds
def test_outcomes_are_counted_from_the_lake_once_across_a_restart(
    broker: KafkaSettings,
    database_settings: DatabaseSettings,
    lake_settings: LakeSettings,
    namespace: str,
) -> None:
    settings = MonitoringSettings(
        namespace=namespace,
        kafka=broker,
        database=database_settings,
        lake=lake_settings,
        monitoring=MonitoringSection(check_interval_s=60, count_every_s=0.1),
    )
    lake, day = Lake(settings.lake, settings.namespace), day_of(now_ms())
    began = now_ms() - 60_000

    def append(first: int, last: int) -> None:
        """Append a slate of a visitor of its own, and its purchase, for each number."""
        source = Source("t", "t", 0)
        common = {"topic_id": "t", "partition": 0, "received_date": day}
        shown, bought = [], []
        for number in range(first, last):
            place = {**common, "offset": number, "user_id": f"user-{number}"}
            items = [{"item_id": each, "source": "network"} for each in "ab"]
            named = {"recommendation_id": f"slate-{number}", "timestamp": began, "items": items}
            shown.append({**place, **named, "purpose": "shown", "placement": "home"})
            event: dict[str, Any] = {"event_id": f"e{number}", "event_type": "purchase"}
            event |= {
                "item_id": "b",
                "timestamp": began + 1,
                "value": 2.5,
                "properties": '{"currency": "EUR"}',
            }
            bought.append({**place, **event})
        for name, rows in ((RECOMMENDATIONS, shown), (INTERACTIONS, bought)):
            lake.append(name, pa.Table.from_pylist(rows, SCHEMAS[name]), {source: last - 1})

    def outcomes(client: TestClient) -> Any:
        asked: dict[str, Any] = {"hours": 1, "by": ["placement", "position"]}
        return client.get("/v1/reports/outcomes", params=asked).json()

    append(0, 9)
    with TestClient(create_app(settings)) as client:
        found = eventually(lambda: outcomes(client), lambda it: it["total"]["purchases"] == 9)
        assert (found["groups"], found["hidden_groups"]) == ([], 2)
    append(9, 12)
    with TestClient(create_app(settings)) as client:
        found = eventually(lambda: outcomes(client), lambda it: it["total"]["purchases"] == 12)
        refused = client.get("/v1/reports/outcomes", params={"by": "positoin"})
    assert (refused.status_code, "position" in refused.text) == (422, True)
    assert found["total"]["answers"] == 24
    assert [(group["by"], group["views"], group["money"]) for group in found["groups"]] == [
        ({"placement": "home", "position": 0}, 12, []),
        (
            {"placement": "home", "position": 1},
            12,
            [{"currency": "EUR", "revenue": 30.0, "refunds": 0.0, "net": 30.0}],
        ),
    ]
