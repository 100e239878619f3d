"""What a follower of a compacted topic takes, and what it knows after a start without a broker."""

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.broker import follower
from slipstream.broker.follower import AccessKeyFeed, Follower
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.records import Batch, Message
from slipstream.chassis.access.keys import KeyRing, digest_of
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.access import AccessKey
from slipstream.contracts.placements import Placement
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import PLACEMENTS
from tests.unit.broker.scripted import SOURCE, ScriptedConsumer

METRICS = Metrics("serving")


def placement(name: str, revision: int) -> Placement:
    return Placement(name=name, revision=revision, changed_at=1)


class Log(ScriptedConsumer):
    """A topic with these records, read in portions; at its start it ends behind `end` of them."""

    def __init__(self, portions: Sequence[Sequence[Placement]], end: int) -> None:
        super().__init__(
            *(
                Batch([Message(SOURCE, at, each.name, each, "") for at, each in enumerate(portion)])
                for portion in portions
            )
        )
        self.end = end

    def poll(self, timeout_s: float) -> Batch:
        batch = super().poll(timeout_s)
        self.position += len(batch.messages)
        return batch


class Followed:
    """A follower, and the records that it has given, by call."""

    def __init__(self, consumer: ScriptedConsumer | None, path: Path | None = None) -> None:
        self.taken: list[list[Placement]] = []
        self.consumer = consumer
        self.follower = Follower(PLACEMENTS, self._connect, self._take, METRICS, kept_in=path)

    def _connect(self) -> Any:
        if self.consumer is None:
            raise BrokerUnavailableError("away")
        return self.consumer

    def _take(self, placements: Collection[Placement]) -> None:
        self.taken.append(list(placements))

    def run(self) -> "Followed":
        if self.consumer is None:
            with pytest.raises(BrokerUnavailableError):
                self.follower.run(threading.Event())
        else:
            self.follower.run(self.consumer.stop)
        return self

    @property
    def known(self) -> dict[str, int]:
        return {each.name: each.revision for taken in self.taken for each in taken}


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=6), st.data())
def test_no_state_before_the_newest_one_counts_while_the_topic_is_read(
    names: list[list[str]], data: st.DataObject
) -> None:
    numbers = iter(range(1, 100))
    portions = [[placement(name, next(numbers)) for name in portion] for portion in names]
    records = [each for portion in portions for each in portion]
    end = data.draw(st.integers(0, len(records)))
    followed = Followed(Log(portions, end)).run()
    assert followed.follower.caught_up
    assert followed.known == {each.name: each.revision for each in records}
    newest = {each.name: each.revision for each in records[:end]}
    assert all(each.revision >= newest.get(each.name, 0) for each in followed.taken[0])
    assert all(len({each.name for each in taken}) == len(taken) for taken in followed.taken)


def test_a_second_reading_of_the_topic_gives_no_older_state_and_takes_in_what_is_new() -> None:
    followed = Followed(Log([[placement("home", 1), placement("home", 2)]], 2)).run()
    again = [placement("home", 1)], [placement("home", 2), placement("home", 3)]
    followed.consumer = Log(again, 3)
    followed.run()
    assert [each.revision for taken in followed.taken for each in taken] == [2, 3]


def test_a_topic_that_was_not_read_to_its_end_gives_nothing() -> None:
    followed = Followed(Log([[placement("home", 1)]], 2)).run()
    assert followed.taken == [] and not followed.follower.caught_up


def test_the_last_states_are_known_after_a_start_without_a_broker(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "placements.jsonl"
    Followed(Log([[placement("home", 1), placement("cart", 4)]], 2), path).run()
    assert path.stat().st_mode & 0o077 == 0
    started = Followed(None, path).run()
    assert started.known == {"home": 1, "cart": 4}
    assert started.follower.restored and started.follower.broker_was_away
    assert not started.follower.caught_up
    started.consumer = Log([[placement("home", 2)]], 1)
    assert started.run().known == {"home": 2, "cart": 4}  # a recreated topic lacks one, at first


def test_an_empty_topic_is_known_to_be_empty_and_a_missing_file_says_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "placements.jsonl"
    assert not Followed(None, path).run().follower.restored
    Followed(Log([], 0), path).run()
    assert Followed(None, path).run().follower.restored


@pytest.mark.parametrize("damage", [b"{", b"\xff", b'{"name": "home"}\n'])
def test_a_file_that_can_not_be_read_gives_nothing_and_is_made_anew(
    tmp_path: Path, damage: bytes
) -> None:
    path = tmp_path / "placements.jsonl"
    path.write_bytes(placement("home", 1).model_dump_json().encode() + b"\n" + damage)
    started = Followed(None, path).run()
    assert started.taken == [] and not started.follower.restored
    started.consumer = Log([[placement("home", 2)]], 1)
    started.run()
    assert Followed(None, path).run().known == {"home": 2}


def test_a_full_disk_costs_the_file_and_leaves_no_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "placements.jsonl"
    followed = Followed(Log([[placement("home", 1)]], 1), path).run()

    def full(_file: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    followed.consumer = Log([[placement("home", 2)]], 1)
    assert followed.run().known == {"home": 2}
    assert list(tmp_path.iterdir()) == []


class RenewedTopic(ScriptedConsumer):
    """Reads nothing from a topic that has these ids one after the other; "" while it is missing."""

    def __init__(self, *ids: str) -> None:
        super().__init__(*(Batch() for _ in ids))
        self.ids = iter([ids[0], *ids])  # it is asked once before it polls

    def ends(self) -> dict[Source, int]:
        return {Source(PLACEMENTS.name, next(self.ids), 0): 0}

    def has_reached(self, ends: Mapping[Source, int]) -> bool:
        return all(end == 0 for end in ends.values())


@pytest.mark.parametrize(
    ("ids", "renewals"),
    [("a", 1), ("aa", 1), ("ab", 2), ("aba", 3), (["a", "", "a"], 1), (["", "a", "", "b"], 2)],
)
def test_a_topic_that_is_first_seen_or_was_made_anew_may_lack_states(
    ids: Sequence[str], renewals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published before the first look may have gone to a topic that is no more."""
    consumer, calls = RenewedTopic(*ids), list[str]()
    monkeypatch.setattr(follower, "_LOOK_EVERY_S", 0.0)
    following = Follower(
        PLACEMENTS,
        lambda: consumer,  # type: ignore[arg-type, return-value]
        lambda _: None,
        METRICS,
        renewed=lambda: calls.append("renewed"),
    )
    following.run(consumer.stop)
    assert len(calls) == renewals


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

    monkeypatch.setattr(follower, "Consumer", connect)
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
