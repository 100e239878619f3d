"""Redis loses writes under three consumers, two of them idle meanwhile: each event counts once."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.features.settings import FeaturesSettings
from services.features.stream.materializer import GROUP
from slipstream.broker.client import admin_session
from slipstream.broker.topics import physical
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.topics import INTERACTIONS
from slipstream.stores.connection import Scripts
from slipstream.stores.layout import Keys
from tests.conftest import OwnRedis
from tests.integration.cluster_losses import Losses
from tests.integration.redis_failures import (
    Link,
    append_only_file,
    crash_and_lose,
    fail_over,
    replicated,
)
from tests.integration.running_materializer import (
    QUICK,
    RunningMaterializer,
    events_online,
    members,
    rollbacks,
    running,
    steady,
    until,
)
from tests.integration.shop_stream import assert_exactly, events, send
from tests.sentinels import (
    following,
    primary,
    running_sentinels,
    sentinel_url,
    settled,
)

CONSUMERS = 3


@dataclass
class Consumers:
    """Three materializers of one group, and the events that were sent to them."""

    settings: FeaturesSettings
    runs: Sequence[RunningMaterializer]
    made: list[Interaction]

    def send(self, made: Sequence[Interaction]) -> None:
        self.made += made
        send(self.runs[0].producer, made)

    def settle(self) -> None:
        for run in self.runs:
            run.settle()

    @property
    def committed(self) -> int:
        """The sum of the group's committed offsets of interactions."""
        topic = physical(self.settings.namespace, INTERACTIONS)
        group = f"{self.settings.namespace}.{GROUP}"
        with admin_session(self.settings.kafka, "offsets could not be looked up") as admin:
            offsets = admin.list_group_offsets([group])[group]
        return sum(max(0, at.offset) for place, at in offsets.items() if place.topic == topic)

    @property
    def applied(self) -> int:
        """How many records the consumers have applied, each time that they are read."""
        return sum(run.materializer.progress(0.0).applied for run in self.runs)

    def wait_until(self, *, applied: int = 0, committed: int = 0) -> None:
        """Return when as many records have been applied, and offsets committed."""
        until(lambda: self.applied >= applied and self.committed >= committed)

    @property
    def rollbacks(self) -> float:
        """How often a consumer found that Redis had lost writes."""
        return sum(rollbacks(run) for run in self.runs)

    def assert_exactly(self) -> None:
        assert_exactly(self.made, self.runs[0].store, self.runs[0].lake)


@contextmanager
def consumers(
    kafka: KafkaSettings, redis: RedisSettings, lake: LakeSettings, namespace: str
) -> Iterator[Consumers]:
    """Three materializers, once all are members of the group and have partitions."""
    settings = steady(
        FeaturesSettings(kafka=kafka, redis=redis, lake=lake, namespace=namespace, features=QUICK)
    )
    with ExitStack() as stack:
        runs = [stack.enter_context(running(settings)) for _ in range(CONSUMERS)]
        three = Consumers(settings, runs, [])
        until(lambda: members(settings) == CONSUMERS)
        three.settle()
        yield three


def of_one_visitor(first: int, count: int) -> list[Interaction]:
    """Events of a visitor of their own: one partition has them, so one consumer reads them."""
    return events(count, visitors=1, first=first)


@pytest.mark.servers("real")  # it takes ten seconds
def test_every_consumer_reads_again_what_a_cut_file_has_lost(
    broker: KafkaSettings,
    own_redis: OwnRedis,
    lake_settings: LakeSettings,
    namespace: str,
    tmp_path: Path,
) -> None:
    redis, server = own_redis()
    with consumers(broker, redis, lake_settings, namespace) as three:
        three.send(events(300))
        three.settle()
        file = append_only_file(tmp_path / "redis-0")
        size = file.stat().st_size
        three.send(events(300, first=300))
        three.settle()
        # What is committed is lost, too: more than the file's last second.
        until(lambda: three.committed == 600)
        assert events_online(three.runs[0].store) == 600
        crash_and_lose(server, file, size)
        # One consumer notices, and loads its scripts. The others have nothing to do.
        three.send(of_one_visitor(600, 100))
        three.settle()
        three.send(events(300, first=700))
        three.settle()
        until(lambda: events_online(three.runs[0].store) == 1_000)
        three.assert_exactly()
        assert three.rollbacks == CONSUMERS, "each noticed it once"


@pytest.mark.servers("real")
def test_offsets_wait_for_a_replica_that_lags_and_nothing_is_lost_with_it(
    broker: KafkaSettings,
    own_redis: OwnRedis,
    lake_settings: LakeSettings,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a busy machine the look at the offsets may come after the usual patience.
    monkeypatch.setattr("services.features.stream.commits.PATIENCE_S", 120.0)
    (redis, server), (spare, _) = own_redis(), own_redis()
    with (
        replicated(redis, spare, server) as link,
        consumers(broker, redis, lake_settings, namespace) as three,
    ):
        three.send(events(300))
        three.settle()
        until(lambda: three.committed == 300)
        link.hold()
        three.send(events(300, first=300))
        three.settle()
        assert three.committed == 300, "the replica has not had the rest"
        fail_over(link, server, spare)
        # Only what was really lost counts here, and the stream is read again at once.
        until(lambda: three.rollbacks >= 1)
        three.send(of_one_visitor(600, 100))
        three.settle()
        three.send(events(300, first=700))
        three.settle()
        until(lambda: events_online(three.runs[0].store) == 1_000)
        three.assert_exactly()


@pytest.mark.servers("real")
def test_what_replicas_lack_that_sentinels_promote_is_read_again(
    broker: KafkaSettings,
    lake_settings: LakeSettings,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.features.stream.commits.PATIENCE_S", 120.0)
    with running_sentinels(tmp_path) as servers:
        until(lambda: settled(servers))
        redis = RedisSettings(url=SecretStr(sentinel_url(servers)), timeout_s=30.0)
        with consumers(broker, redis, lake_settings, namespace) as three:
            three.send(events(300))
            three.settle()
            until(lambda: three.committed == 300)
            first = primary(servers)
            assert first is not None
            link = Link(servers[first].port)
            following(servers, link.port)
            link.hold()
            three.send(events(300, first=300))
            three.settle()
            assert three.committed == 300, "no replica has had the rest"
            servers[first].kill()
            link.cut()
            until(lambda: primary(servers) not in (None, first))
            until(lambda: three.rollbacks >= 1)
            three.send(of_one_visitor(600, 100))
            three.settle()
            three.send(events(300, first=700))
            three.settle()
            until(lambda: events_online(three.runs[0].store) == 1_000)
            three.assert_exactly()


@pytest.mark.servers("real")
def test_nodes_of_a_cluster_that_lose_what_was_not_settled_lose_no_event(
    broker: KafkaSettings,
    losses: Losses,
    lake_settings: LakeSettings,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Scripts, "settle", losses.keeping(Scripts.settle))
    # With the checkpoints gone, all would be read again: that mends what the later ones lose.
    checkpoints = losses.owner(Keys(namespace).checkpoint(""))
    nodes = sorted(losses.children, key=lambda name: name != checkpoints)
    losses.keep()
    with consumers(broker, losses.settings, lake_settings, namespace) as three:
        for number, node in enumerate(nodes, 1):
            before = three.applied
            three.send(events(300, first=300 * (number - 1)))
            three.wait_until(applied=before + 1)
            losses.crash(node)
            three.settle()
            three.wait_until(committed=300 * number)
        three.assert_exactly()
