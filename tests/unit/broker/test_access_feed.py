"""The keys that a service knows when it starts without a broker."""

import threading
from pathlib import Path
from typing import Any

import pytest

from slipstream.broker import access_feed
from slipstream.broker.access_feed import AccessKeyFeed
from slipstream.broker.batch import Batch, Message
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.access.keys import KeyRing, digest_of
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.access import AccessKey
from tests.unit.broker.scripted import SOURCE, ScriptedConsumer


def key(name: str, **more: Any) -> AccessKey:
    return AccessKey(digest=digest_of(name), name=name, scopes=["read"], created_at=1, **more)


def run(path: Path, *records: AccessKey, monkeypatch: pytest.MonkeyPatch) -> KeyRing:
    """The ring of a service that has read these records; without any, the broker is away."""
    messages = [Message(SOURCE, at, each.digest, each, "") for at, each in enumerate(records)]
    consumer = ScriptedConsumer(Batch(messages))

    def connect(*_: object, **__: object) -> ScriptedConsumer:
        if not records:
            raise BrokerUnavailableError("away")
        return consumer

    class NoProducer:
        def send(self, *_: object) -> None:
            pass

    monkeypatch.setattr(access_feed, "Consumer", connect)
    ring, producer = KeyRing(), NoProducer()
    feed = AccessKeyFeed(
        ServiceSettings(),
        ring,
        Metrics("serving"),
        producer,  # type: ignore[arg-type]
        kept_in=path,
    )
    if records:
        feed.run(consumer.stop)
    else:
        with pytest.raises(BrokerUnavailableError):
            feed.run(threading.Event())
    return ring


def test_keys_are_known_after_a_start_without_a_broker_and_revoked_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache" / "keys.jsonl"
    run(path, key("shop"), key("old"), key("old", revoked_at=2), monkeypatch=monkeypatch)
    ring = run(path, monkeypatch=monkeypatch)
    assert ring.find("shop") is not None
    assert ring.find("old") is None
    assert ring.loading  # a key that is not known may be a new one
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_can_not_be_read_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_text("{")
    assert run(path, monkeypatch=monkeypatch).find("shop") is None
    assert run(path, key("shop"), monkeypatch=monkeypatch).find("shop") is not None
