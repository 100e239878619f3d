"""The place of an erasure in the order of events: whatever is read when, and read again."""

import random
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.features.history.archive import TABLES, as_table
from services.features.stream.erasures import LakeErasures
from slipstream.broker.records import Message
from slipstream.chassis.settings import LakeSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.late_records import made_at, without_late
from slipstream.contracts.positions import (
    Position,
    Source,
    StreamCatalogRecord,
    StreamInteraction,
    split_source,
)
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import INTERACTIONS, PEOPLE
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.features import visitor
from slipstream.features.identity import Identities, Link
from slipstream.stores.lake import CATALOG, Lake, LakeLease
from slipstream.stores.layout import Keys
from slipstream.stores.online import OnlineStore
from tests.integration.merge_stories import contents, link, view

# Marks are kept for a month from the time of an erasure.
NOW = now_ms()
VISITORS = ("a", "b", "u", "v", "w")
SOURCES = ("t:0", "t:1", "t:2", "c:0", "c:1")
Step = StreamInteraction | StreamCatalogRecord


def story(chance: random.Random) -> dict[str, list[Step]]:
    """Logs by source, in which events, links and erasures of a few visitors are written in turn.

    Every clock is wrong by up to an hour.
    """
    logs: dict[str, list[Step]] = {source: [] for source in SOURCES}
    # Links neither contradict each other nor form a circle: the order of reading decides on those.
    users = {name: chance.choice(VISITORS[n + 1 :]) for n, name in enumerate(VISITORS[:-1])}
    for _ in range(40):
        kind = chance.choices(("event", "link", "erasure"), (12, 3, 2))[0]
        name = chance.choice(VISITORS[:-1])
        place = VISITORS.index(name)
        source = f"t:{place % 3}" if kind == "event" else f"c:{place % 2}"
        offset, off = len(logs[source]), chance.randrange(-3_600_000, 3_600_000)
        if kind == "event":
            event = view(name, 0).interaction.model_copy(
                update={
                    "event_id": f"{chance.getrandbits(64)}",
                    "timestamp": NOW + off,
                    "received_at": NOW + off,
                }
            )
            logs[source].append(StreamInteraction(source, offset, event))
            continue
        record = link(name, users[name], 0).record
        if kind == "erasure":
            cut: dict[str, dict[str, int]] = {INTERACTIONS.name: {}, PEOPLE.name: {}}
            for each, log in logs.items():
                cut[INTERACTIONS.name if each[0] == "t" else PEOPLE.name][each] = len(log)
            record = CatalogRecord(
                entity="user", entity_id=name, deleted=True, timestamp=NOW, cut=cut
            )
        record = record.model_copy(update={"timestamp": NOW + off})
        logs[source].append(StreamCatalogRecord(source, offset, record))
    return logs


class Reader:
    """Reads logs into both stores in any order, as the stream does, and again after a crash."""

    def __init__(self, logs: dict[str, list[Step]], store: OnlineStore, lake: Lake) -> None:
        self._logs, self._store, self._lake = logs, store, lake
        self.next = dict.fromkeys(SOURCES, 0)
        self.committed = dict.fromkeys(SOURCES, 0)

    @property
    def behind(self) -> list[str]:
        return [source for source in SOURCES if self.next[source] < len(self._logs[source])]

    def read(self, source: str, count: int) -> None:
        """The next records of a source take effect in both stores."""
        portion = self._logs[source][self.next[source] :][:count]
        steps = without_late(portion, itemgetter(2), self._store.marks.of)
        self._store.apply([step for step in steps if isinstance(step, StreamInteraction)])
        people = [step for step in steps if isinstance(step, StreamCatalogRecord)]
        for step in people:
            if step.record.deleted:
                self._store.erase(step)
        self._store.link([step for step in people if step.record.entity == "identity"])
        self._append(source, steps)
        self.next[source] += len(portion)

    def crash(self, chance: random.Random) -> None:
        """Begin again at the committed offsets, which are anywhere between the last and these."""
        for source in SOURCES:
            low, high = self.committed[source], self.next[source]
            self.committed[source] = self.next[source] = chance.randint(low, high)

    def _append(self, name: str, steps: Sequence[Step]) -> None:
        topic = INTERACTIONS if name[0] == "t" else PEOPLE
        source = Source(topic.name, *split_source(name))
        table, as_row = TABLES[topic.name]
        applied = self._lake.applied_offsets(table, [source])[source]
        fresh = [step for step in steps if step.offset > applied]
        if fresh:
            rows = [as_row(Message(source, step.offset, "", step[2], "")) for step in fresh]
            self._lake.append(table, as_table(table, rows), {source: fresh[-1].offset})


def due(logs: dict[str, list[Step]]) -> tuple[dict[str, list[Interaction]], Identities]:
    """The events by visitor that no erasure takes, and who is whom by the links that are left."""
    steps = [step for log in logs.values() for step in log]
    links = {
        Position(step.source, step.offset): Link(
            step.record.entity_id,
            step.record.attributes[MERGED_INTO],
            step.source,
            step.offset,
            step.record.timestamp,
        )
        for step in steps
        if isinstance(step, StreamCatalogRecord) and step.record.entity == "identity"
    }
    events = [step for step in steps if isinstance(step, StreamInteraction)]
    requests = [
        step for step in steps if isinstance(step, StreamCatalogRecord) and step.record.deleted
    ]
    for request in sorted(requests, key=lambda step: sum(map(sum, _lengths(step.record)))):
        ends = {s: end for ends in request.record.cut.values() for s, end in ends.items()}
        before = {at: link for at, link in links.items() if at.offset < ends[at.source]}
        identities = Identities(before.values())
        user = identities.resolve(request.record.entity_id)
        gone = {name for name in VISITORS if identities.resolve(name) == user}
        links = {
            at: link
            for at, link in links.items()
            if not {link.visitor_id, link.user_id} & gone
            or (at not in before and link.timestamp > request.record.timestamp)
        }
        events = [
            step
            for step in events
            if step.interaction.user_id not in gone
            or (
                step.offset >= ends[step.source]
                and made_at(step.interaction) > request.record.timestamp
            )
        ]
    by_visitor: dict[str, list[Interaction]] = {}
    for step in events:
        by_visitor.setdefault(step.interaction.user_id, []).append(step.interaction)
    return by_visitor, Identities(links.values())


def _lengths(record: CatalogRecord) -> list[list[int]]:
    return [list(ends.values()) for ends in record.cut.values()]


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
# Each was wrong once: an erasure read again parted those who were linked since; a link went with a
# later erasure before an earlier one was done; a separated visitor's own visitors stayed behind,
# twice; the user whom a late link had led to was not restored.
@example(seed=1131)
@example(seed=969)
@example(seed=5158)
@example(seed=1329016366)
@example(seed=138966)
@pytest.mark.servers("real")  # it takes ten seconds
def test_what_was_before_an_erasure_is_gone_and_what_came_after_it_is_whole(
    seed: int, redis_settings: RedisSettings, tmp_path: Path
) -> None:
    chance, namespace = random.Random(seed), uuid4().hex
    logs = story(chance)
    store = OnlineStore(redis_settings, namespace)
    lake = Lake(LakeSettings(uri=str(tmp_path / "lake")), namespace)
    leases = [LakeLease(redis_settings, namespace) for _ in range(2)]
    reader = Reader(logs, store, lake)
    # Two replicas find the same erasures, and the lease goes from one to the other.
    jobs = [
        LakeErasures(lake, store, lease, lambda: reader.committed, lambda: {"": dict(reader.next)})
        for lease in leases
    ]
    while reader.behind:
        for _ in range(chance.randint(1, 8)):
            if behind := reader.behind:
                reader.read(chance.choice(behind), chance.randint(1, 5))
        if chance.random() < 0.3:
            reader.crash(chance)
        if chance.random() < 0.3:
            chance.choice(jobs).step()
    reader.committed = dict(reader.next)
    waiting = True
    while waiting:
        for job in jobs:
            job.step()
        store._redis.delete(Keys(namespace).erasing)
        waiting = any(job.waiting for job in jobs)

    events, identities = due(logs)
    for name in VISITORS:
        user = identities.resolve(name)
        theirs = [
            event
            for other in VISITORS
            if identities.resolve(other) == user
            for event in events.get(other, [])
        ]
        held = store.visitor(name)
        if theirs:
            assert contents(held) == contents(visitor.fold_all(None, theirs)), name
        else:
            assert held is None or held.counts == {}, name
            assert store._redis.zscore(Keys(namespace).active_visitors, name) is None, name
    rows = lake.read("interactions", columns=["event_id"])["event_id"].to_pylist()
    assert sorted(rows) == sorted(e.event_id for each in events.values() for e in each)
    if lake.version(CATALOG) is not None:
        assert not any(lake.read(CATALOG, columns=["deleted"])["deleted"].to_pylist())
    keys = Keys(namespace)
    for name in VISITORS:
        assert not store._redis.hexists(keys.catalog("user", name), "erased_before")
    store.close()
    for lease in leases:
        lease.close()
