"""`slipstream dead-letters` on a real broker and a running ingestion."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from slipstream.broker.producer import OutgoingRecord, open_producer
from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.events import DeadLetter, Interaction
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS
from slipstream_cli.__main__ import cli
from slipstream_cli.dead_letters import KEPT_FILE
from slipstream_cli.dead_letters.letters import keep_letters, replay_marks, restore_letters
from tests.conftest import OwnBroker
from tests.integration.ingestion_process import KEY, ingestion_process
from tests.integration.test_ingestion import records

DAY = 86_400_000


class Command:
    """The command line, for one namespace and data folder."""

    def __init__(self, kafka: KafkaSettings, namespace: str, data_dir: Path) -> None:
        self.env = {
            "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "SLIPSTREAM_NAMESPACE": namespace,
        }
        self.data_dir = data_dir

    def __call__(self, *arguments: str) -> str:
        ended = CliRunner().invoke(
            cli, ["dead-letters", *arguments, "--data-dir", str(self.data_dir)], env=self.env
        )
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    def letters(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("list", "--json", *arguments))
        return found


@pytest.fixture
def command(broker: KafkaSettings, namespace: str, tmp_path: Path) -> Command:
    return Command(broker, namespace, tmp_path)


def publish(kafka: KafkaSettings, namespace: str, letter: DeadLetter) -> None:
    async def send() -> None:
        producer = await open_producer(kafka, namespace)
        await producer.publish([OutgoingRecord(DEAD_LETTERS, letter.source, letter, "")])
        await asyncio.to_thread(producer.close)

    asyncio.run(send())


@pytest.mark.servers("real")  # it takes ten seconds
def test_letters_are_listed_sent_again_once_and_what_is_still_wrong_gets_a_new_one(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    namespace: str,
    command: Command,
) -> None:
    now = int(time.time() * 1000)
    left_out = Interaction(
        event_id="m-9",
        event_type="view",
        user_id="bob",
        item_id="cup",
        timestamp=now - 3 * DAY,
        received_at=now,
        source="shop",
    )
    late = {
        "event": "Product Viewed",
        "userId": "ada",
        "messageId": "m-1",
        "properties": {"sku": "kettle"},
    }
    with (
        ingestion_process(broker, redis_settings, namespace) as url,
        httpx.Client(base_url=url, auth=(KEY, ""), timeout=30) as client,
    ):
        assert (
            client.post("/v1/track", json=late | {"timestamp": now - 2 * DAY}).json()["rejected"]
            == 1
        )
        assert (
            client.post(
                "/v1/page", json={"name": "nobody's"}, headers={"X-Request-Id": "rid-1"}
            ).json()["rejected"]
            == 1
        )
        assert (
            client.post("/v1/items", json={"items": [{"item_id": "a", "available": "no"}]}).json()[
                "rejected"
            ]
            == 1
        )
        letter = DeadLetter(
            source="features",
            code="timestamp_late",
            reason="late",
            original=left_out.model_dump_json(),
            received_at=int(time.time() * 1000),
        )
        publish(broker, namespace, letter)

        table = command("list")
        assert all(
            code in table
            for code in ("timestamp_too_old", "missing_user", "invalid_value", "timestamp_late")
        )
        assert any("missing_user" in line and "rid-1" in line for line in table.splitlines())
        assert table.startswith("4 letters, the newest 4:\n")
        (page,) = command.letters("--code", "missing_user", "--source", "shop", "--since", "1h")
        assert (page["field"], page["original"]["type"], page["original"]["name"]) == (
            "userId",
            "page",
            "nobody's",
        )
        assert command.letters("--source", "nobody") == []
        assert len(command.letters("--limit", "2")) == 2

        assert "would send  1 to /v1/import" in command("replay", "--dry-run")
        told = command("replay", "--url", url, "--write-key", KEY)
        assert (
            "left out    1: ingestion had accepted it" in told
            and "sent        3" in told
            and "accepted: 1" in told
            and "missing_user: 1" in told
            and "invalid_value: 1" in told
        )

        (again,) = [message.record for message in records(broker, namespace, INTERACTIONS, 1)]
        assert (again.event_id, again.user_id, again.item_id, again.timestamp, again.imported) == (
            "m-1",
            "ada",
            "kettle",
            now - 2 * DAY,
            True,
        )
        replayed = [(it["code"], it["replayed"]) for it in command.letters()]
        assert replayed == [
            ("timestamp_too_old", True),
            ("missing_user", True),
            ("invalid_value", True),
            ("timestamp_late", False),
            ("missing_user", False),
            ("invalid_value", False),
        ]

        of_ada = ("replay", "--url", url, "--write-key", KEY, "--code", "timestamp_too_old")
        told = command(*of_ada)
        assert "left out    1 replayed before" in told and "sent        0" in told
        # As after a replay that was killed before its mark.
        assert "duplicate: 1" in command(*of_ada, "--again")


@pytest.mark.servers("embedded")  # a real broker keeps them itself
def test_letters_outlive_the_embedded_broker_with_their_ids_until_they_expire(
    own_broker: OwnBroker, namespace: str, tmp_path: Path
) -> None:
    kafka, server = own_broker()
    command, now = Command(kafka, namespace, tmp_path), int(time.time() * 1000)
    for age, code in ((31 * DAY, "expired"), (29 * DAY, "old"), (0, "new")):
        letter = DeadLetter(
            source="shop", code=code, reason="no", original={"n": 1}, received_at=now - age
        )
        publish(kafka, namespace, letter)
    before = {letter["code"]: letter["letter"] for letter in command.letters()}
    assert len(before) == 3
    with replay_marks(kafka, namespace) as mark:
        mark([before["old"]])
    for _ in range(2):  # also a letter that was restored before
        assert keep_letters(kafka, namespace, tmp_path)
        server.kill()
        server.start()
        restore_letters(kafka, namespace, tmp_path)
        kept = {it["code"]: (it["letter"], it["replayed"]) for it in command.letters()}
        assert kept == {"old": (before["old"], True), "new": (before["new"], False)}
    assert (tmp_path / KEPT_FILE).stat().st_mode & 0o777 == 0o600


def test_a_namespace_in_which_nothing_ever_ran_has_no_letters(command: Command) -> None:
    assert "0 letters" in command("list")
    assert "There is nothing to send." in command("replay", "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "complaint", "status"),
    [
        (
            ["replay", "--url", "http://127.0.0.1:1", "--since", "yesterday"],
            "neither an age such as 90m",
            2,
        ),
        (["list", "--limit", "0"], "0 is not in the range", 2),
    ],
)
def test_bad_arguments_get_one_clear_line(
    command: Command, arguments: list[str], complaint: str, status: int
) -> None:
    ended = CliRunner().invoke(cli, ["dead-letters", *arguments], env=command.env)
    assert ended.exit_code == status
    assert complaint in ended.output


def test_a_broker_that_is_away_is_said_in_one_line(command: Command) -> None:
    env = command.env | {"SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    ended = CliRunner().invoke(
        cli, ["dead-letters", "list", "--data-dir", str(command.data_dir)], env=env
    )
    assert ended.exit_code == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in ended.output.splitlines()[-1]
