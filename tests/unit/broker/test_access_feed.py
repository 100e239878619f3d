"""The keys that a service knows when it starts without a broker."""

import threading
from collections.abc import Mapping, Sequence
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
from slipstream.contracts.events import AccessKey
from slipstream.contracts.positions import Source
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
        producer,
        kept_in=path,  # type: ignore[arg-type]
    )
    if records:
        feed.run(consumer.stop)
    else:
        with pytest.raises(BrokerUnavailableError):
            feed.run(threading.Event())
    return ring


class RenewedTopic(ScriptedConsumer):
    """Reads nothing from a topic that has these ids one after the other; "" while it is missing."""

    def __init__(self, *ids: str) -> None:
        super().__init__(*(Batch() for _ in ids))
        self.ids = iter([ids[0], *ids])  # it is asked once before it polls

    def ends(self) -> dict[Source, int]:
        return {Source("access-keys.v1", next(self.ids), 0): 0}

    def has_reached(self, ends: Mapping[Source, int]) -> bool:
        return all(end == 0 for end in ends.values())


@pytest.mark.parametrize(
    ("ids", "renewals"),
    [("a", 1), ("aa", 1), ("ab", 2), ("aba", 3), (["a", "", "a"], 1), (["", "a", "", "b"], 2)],
)
def test_a_topic_that_is_first_seen_or_was_made_anew_may_lack_keys(
    ids: Sequence[str], renewals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published before the first look may have gone to a topic that is no more."""
    consumer, calls = RenewedTopic(*ids), list[str]()
    monkeypatch.setattr(access_feed, "Consumer", lambda *_, **__: consumer)
    monkeypatch.setattr(access_feed, "_LOOK_EVERY_S", 0.0)
    feed = AccessKeyFeed(
        ServiceSettings(),
        KeyRing(),
        Metrics("monitoring"),
        None,  # type: ignore[arg-type]
        lambda: calls.append("renewed"),
    )
    feed.run(consumer.stop)
    assert len(calls) == renewals


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
