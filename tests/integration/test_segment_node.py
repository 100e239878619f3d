"""Segment's SDK for Node, as it comes from the npm registry, pointed at our host."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.topics import INTERACTIONS, PEOPLE
from slipstream.contracts.vocabulary import MERGED_INTO
from tests.integration.ingestion_process import KEY, ingestion_process
from tests.integration.test_ingestion import records

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
# Where `make node-sdk` installs it.
FOLDER = Path(os.environ.get("NODE_SDK") or ROOT / ".node-sdk")

pytestmark = [
    pytest.mark.skipif(
        NODE is None, reason="node is not installed; Debian, Ubuntu: apt install nodejs npm"
    ),
    pytest.mark.skipif(
        not (FOLDER / "node_modules" / "@segment" / "analytics-node").exists(),
        reason="@segment/analytics-node is not installed: make node-sdk",
    ),
]


def test_every_call_of_the_unmodified_sdk_arrives(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    with ingestion_process(broker, redis_settings, namespace) as url:
        command = [
            str(NODE),
            str(Path(__file__).with_name("segment_node.cjs")),
            str(FOLDER),
            url,
            KEY,
        ]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.split() == ["request", "/v1/batch", "answered", "7"]

        events = [message.record for message in records(broker, namespace, INTERACTIONS, 6)]
        assert {event.source for event in events} == {"shop"}
        assert sorted(
            (event.user_id, event.event_type, event.item_id or "") for event in events
        ) == [
            ("ada", "group", ""),
            ("ada", "page", ""),
            ("ada", "purchase", "cup"),
            ("ada", "purchase", "kettle"),
            ("ada", "screen", ""),
            ("device", "view", "kettle"),
        ]
        order = next(event for event in events if event.item_id == "cup")
        assert 55_000 < order.received_at - order.timestamp < 70_000

        entries = [message.record for message in records(broker, namespace, PEOPLE, 3)]
        assert sorted((entry.entity, entry.entity_id) for entry in entries) == [
            ("identity", "ada@example.org"),
            ("identity", "device"),
            ("user", "ada"),
        ]
        assert {
            entry.attributes[MERGED_INTO] for entry in entries if entry.entity == "identity"
        } == {"ada"}
