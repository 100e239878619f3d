"""Visitors who turn out to be users: every event counts once, whatever the order, wherever a writer
is stopped.
"""

import itertools
import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import StreamCatalogRecord, StreamInteraction
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.features import item, visitor
from slipstream.features.identity import Identities, Link
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.keys import Keys
from slipstream.stores.layout import MergeMarker
from slipstream.stores.online import OnlineReader, OnlineStore
from tests.integration.crashing import StoppedError, interrupted_store

NOW = 1_790_000_000_000
PEOPLE = ("a", "b", "c", "u", "v")
Step = StreamInteraction | StreamCatalogRecord


@pytest.fixture
def store(redis_settings: RedisSettings, namespace: str) -> Iterator[OnlineStore]:
    made = OnlineStore(redis_settings, namespace)
    yield made
    made.close()


def view(user: str, number: int, source: str = "", item_id: str = "") -> StreamInteraction:
    at = NOW + number * 60_000
    event = Interaction(
        event_id=f"e{number}",
        event_type="view",
        user_id=user,
        item_id=item_id or f"i{number % 7}",
        timestamp=at,
        received_at=at,
    )
    return StreamInteraction(source or f"t:{PEOPLE.index(user) % 3}", number, event)


def link(visitor_id: str, user_id: str, number: int, source: str = "") -> StreamCatalogRecord:
    record = CatalogRecord(
        entity="identity",
        entity_id=visitor_id,
        attributes={MERGED_INTO: user_id},
        timestamp=NOW + number,
    )
    return StreamCatalogRecord(source or f"c:{PEOPLE.index(visitor_id) % 2}", number, record)


def apply(store: OnlineStore, steps: Sequence[Step]) -> None:
    """As the materializer does: a batch's interactions, then its links."""
    store.apply([one for one in steps if isinstance(one, StreamInteraction)])
    store.link([one for one in steps if isinstance(one, StreamCatalogRecord)])


def contents(state: VisitorState | None) -> object:
    return state and (
        state.sequence,
        state.counts,
        state.first_seen,
        state.last_seen,
        state.recent,
        state.tiles,
    )


def assert_each_once(store: OnlineStore, steps: Sequence[Step]) -> None:
    """Every visitor is read as the fold of the events of all who are the same user; items have
    every event.

    Who is merged into whom may depend on what was read first, where links contradict each other or
    go round; not otherwise.
    """
    user_of = {one: store._merges.end(one)[0] for one in PEOPLE}
    targets: dict[str, set[str]] = {}
    for step in steps:
        if isinstance(step, StreamCatalogRecord):
            targets.setdefault(step.record.entity_id, set()).add(
                step.record.attributes[MERGED_INTO]
            )
    for one, said in targets.items():
        if len(said) == 1:
            assert user_of[one] == user_of[said.pop()]
    for one in PEOPLE:
        assert one in targets or user_of[one] == one
    events = [step.interaction for step in steps if isinstance(step, StreamInteraction)]
    for one in PEOPLE:
        theirs = [event for event in events if user_of[event.user_id] == user_of[one]]
        held = store.visitor(one)
        if not theirs:
            assert held is None or held.counts == {}
        else:
            assert contents(held) == contents(visitor.fold_all(None, theirs)), one
    items = sorted({event.item_id for event in events if event.item_id})
    for item_id, state in zip(items, store.items(items), strict=True):
        assert state is not None
        assert (
            state.counts
            == item.fold_all(None, [event for event in events if event.item_id == item_id]).counts
        )


STORY: list[Step] = [
    view("a", 0), view("u", 1), view("a", 2), link("a", "u", 3), view("a", 4), view("u", 5), link("b", "a", 6), view("b", 7),
    link("u", "v", 8), view("a", 9), view("v", 10), link("a", "c", 11), link("v", "a", 12), view("b", 13),
]  # fmt: skip


def test_events_before_and_after_a_link_are_the_users(store: OnlineStore) -> None:
    store.apply([view("a", 0), view("u", 1), view("a", 2)])
    linked = store.link([link("a", "u", 3)])
    assert linked.outcomes["merged"] == 1
    assert linked.changed.keys() == {"u"} and linked.changed["u"].counts == {"view": 3}
    changed = store.apply([view("a", 4)])
    assert changed.keys() == {"u"} and changed["u"].counts == {"view": 4}
    assert store.visitor("a") == store.visitor("u") == changed["u"]
    assert changed["u"].merged == {"a": {"t:0": 4}}
    assert store.apply([view("a", 0), view("a", 2), view("a", 4)]) == {}, "read again"
    again = store.link([link("a", "u", 3)])
    assert (again.outcomes["known"], again.changed) == (1, {})


def test_the_first_link_counts_and_none_closes_a_circle(store: OnlineStore) -> None:
    store.apply([view(one, number) for number, one in enumerate(PEOPLE)])
    told = [
        link("a", "u", 0),
        link("a", "v", 1),
        link("u", "a", 2),
        link("b", "b", 3),
        link("u", "c", 4),
        link("a", "c", 5),
    ]
    linked = store.link(told)
    assert linked.outcomes == {"merged": 2, "other": 1, "itself": 2, "known": 1, "invalid": 0}
    assert store.visitor("a") == store.visitor("c") == store.visitor("u")
    assert store.visitor("v").counts == store.visitor("b").counts == {"view": 1}
    nobody = CatalogRecord(entity="identity", entity_id="b", attributes={}, timestamp=NOW)
    assert store.link([StreamCatalogRecord("c:0", 9, nobody)]).outcomes["invalid"] == 1


def test_a_visitor_never_seen_is_the_user_from_the_first_event_on(store: OnlineStore) -> None:
    assert store.link([link("a", "u", 0)]).changed == {}
    assert store.visitor("a") is None
    assert store.apply([view("a", 1)]).keys() == {"u"}
    assert store.visitor("a").counts == {"view": 1}


@pytest.mark.parametrize("batch", [1, 3, len(STORY)])
def test_a_writer_stopped_after_any_write_goes_on_when_it_reads_again(
    redis_settings: RedisSettings, batch: int
) -> None:
    batches = [STORY[start : start + batch] for start in range(0, len(STORY), batch)]
    for writes in itertools.count():
        namespace = f"t-{uuid.uuid4().hex[:12]}"
        stopped = interrupted_store(redis_settings, namespace, writes)
        done = 0
        try:
            for steps in batches:
                apply(stopped, steps)
                done += 1
        except StoppedError:
            pass
        finally:
            stopped.close()
        store = OnlineStore(redis_settings, namespace)
        for steps in batches[max(0, done - 1) :]:
            apply(store, steps)
        assert_each_once(store, STORY)
        store.close()
        if done == len(batches):
            break
    assert writes > 20


@dataclass
class Log:
    """Sources with their records; each is read from its own position, which goes back now and then."""

    steps: list[Step]
    sources: dict[str, list[Step]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in self.steps:
            self.sources.setdefault(step.source, []).append(step)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    steps: list[Step] = []
    for number in range(draw(st.integers(3, 25))):
        one = draw(st.sampled_from(PEOPLE))
        if draw(st.integers(0, 2)):
            steps.append(view(one, number))
        else:
            steps.append(link(one, draw(st.sampled_from(PEOPLE)), number))
    return Log(steps)


@given(log=logs(), seed=st.integers(0, 2**32))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_the_order_and_wherever_it_stops_the_end_is_the_fold_of_all(
    redis_settings: RedisSettings, log: Log, seed: int
) -> None:
    chance, namespace = random.Random(seed), f"t-{uuid.uuid4().hex[:12]}"
    committed = dict.fromkeys(log.sources, 0)
    while any(committed[source] < len(steps) for source, steps in log.sources.items()):
        writer = interrupted_store(redis_settings, namespace, chance.choice([1, 2, 3, 5, 8, 1_000]))
        reading = dict(committed)
        try:
            for _ in range(chance.randrange(1, 8)):
                batch: list[Step] = []
                for source in chance.sample(
                    sorted(log.sources), chance.randrange(1, len(log.sources) + 1)
                ):
                    until = reading[source] + chance.randrange(4)
                    batch += log.sources[source][reading[source] : until]
                    reading[source] = min(until, len(log.sources[source]))
                apply(writer, batch)
                if chance.random() < 0.5:
                    committed = dict(reading)
        except StoppedError:
            pass
        finally:
            writer.close()
    store = OnlineStore(redis_settings, namespace)
    if chance.random() < 0.3:
        apply(store, log.steps)  # the whole topic again
    assert_each_once(store, log.steps)
    store.close()


def test_writers_at_once_merge_and_fold_each_record_once(
    redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    """Each source belongs to one writer, and for a while to its neighbour, too."""
    chance = random.Random(5)
    steps: list[Step] = [
        view(chance.choice(PEOPLE), n) if n % 5 else link(*chance.sample(PEOPLE, 2), n)
        for n in range(400)
    ]
    sources = Log(steps).sources
    failures: list[BaseException] = []

    def write(mine: list[str]) -> None:
        own = OnlineStore(redis_settings, namespace)
        try:
            for source in mine:
                for start in range(0, len(sources[source]), 7):
                    apply(own, sources[source][start : start + 7])
        except BaseException as error:
            failures.append(error)
        finally:
            own.close()

    names = sorted(sources)
    threads = [
        threading.Thread(target=write, args=([names[n], names[(n + 1) % len(names)]],))
        for n in range(len(names))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert_each_once(store, steps)


def test_two_who_were_merged_into_each_other_at_one_moment_become_one(
    store: OnlineStore, namespace: str
) -> None:
    store.apply([view("a", 0), view("u", 1), view("u", 2)])
    keys = Keys(namespace)
    for one, other in (
        ("a", "u"),
        ("u", "a"),
    ):  # what two writers do at the same moment, before either goes on
        state = layout.decode_visitor(store._redis.get(keys.visitor(one)))
        store._redis.set(
            keys.visitor(one),
            layout.encode_marker(MergeMarker(other, state), layout.new_revision()),
        )
    store.apply([view("u", 3)])
    assert store.visitor("a").counts == store.visitor("u").counts == {"view": 4}


async def test_reader_follows_markers_and_adds_what_waits(
    redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    reader = OnlineReader(redis_settings, namespace)
    try:
        store.apply([view("a", 0), view("u", 1), view("b", 2)])
        keys = Keys(namespace)
        state = layout.decode_visitor(store._redis.get(keys.visitor("a")))
        store._redis.set(
            keys.visitor("a"), layout.encode_marker(MergeMarker("u", state), layout.new_revision())
        )
        waiting = await reader.visitor("a")
        assert waiting is not None and waiting.counts == {"view": 2}, (
            "a merge that was stopped half-way"
        )
        assert contents(store.visitor("a")) == contents(waiting)
        store.link([link("a", "u", 3), link("u", "v", 4)])
        found = await reader.visitors(["a", "b", "u", "v"])
        assert [one.counts["view"] for one in found if one] == [2, 1, 2, 2]
        assert found[0] == found[2] == found[3] == store.visitor("a")
    finally:
        await reader.aclose()


def test_a_long_way_is_shortened_when_it_is_used(store: OnlineStore, namespace: str) -> None:
    ids = [f"p{n}" for n in range(12)]
    store.apply(
        [
            StreamInteraction("t:0", n, view("a", n)[2].model_copy(update={"user_id": one}))
            for n, one in enumerate(ids)
        ]
    )
    store.link([link("a", "u", 0)._replace(record=link("a", ids[n + 1], n)[2].model_copy(update={"entity_id": one}))
                for n, one in enumerate(ids[:-1])])  # fmt: skip
    store.apply(
        [StreamInteraction("t:0", 99, view("a", 99)[2].model_copy(update={"user_id": ids[0]}))]
    )
    value = store._redis.get(Keys(namespace).visitor(ids[0]))
    assert layout.decode_visitor_or_marker(value) == MergeMarker(ids[-1])
    assert store.visitor(ids[0]).counts == {"view": 13}


def test_a_visitor_that_was_forgotten_and_comes_again_can_be_linked_again(
    store: OnlineStore, namespace: str
) -> None:
    store.apply([view("a", 0), view("u", 1)])
    store.link([link("a", "u", 2)])
    store._redis.delete(Keys(namespace).visitor("a"))  # its time to live
    store.apply([view("a", 3)])
    store.link([link("a", "u", 4)])
    assert store.visitor("u").counts == {"view": 3}


def test_erasure_forgets_user_and_merged_once_and_lets_nothing_come_back(
    store: OnlineStore,
) -> None:
    early = [view("a", 0), view("u", 1), view("b", 2)]
    store.apply(early)
    store.link([link("a", "u", 3)])
    gone = StreamCatalogRecord(
        "c:1", 5, CatalogRecord(entity="user", entity_id="u", deleted=True, timestamp=NOW + 5)
    )
    assert store.erase(gone) == ["u", "a"]
    assert (
        store.visitor("u")
        == store.visitor("a")
        == VisitorState(applied={"t:0": 1, "c:1": 5}, merged={"a": {"t:0": 0}})
    )
    store.apply(early)
    assert store.visitor("u").counts == {}, "what is read again does not come back"
    store.apply([view("a", 6), view("u", 7)])
    assert store.erase(gone) == ["u", "a"]
    assert store.visitor("u").counts == {"view": 2}, "what came after it stays"
    late = store.link([link("b", "u", 4)])  # said before the erasure, read after it
    assert late.erased == [("b", NOW + 5)] and store.visitor("b").counts == {"view": 2}
    assert store.erase(
        StreamCatalogRecord("c:1", 9, gone.record.model_copy(update={"entity_id": "c"}))
    ) == ["c"], "never seen"


def test_history_resolves_ids_as_the_stream_did(store: OnlineStore) -> None:
    told = [step for step in STORY if isinstance(step, StreamCatalogRecord)]
    resolved = Identities(
        Link(record.entity_id, record.attributes[MERGED_INTO], source, offset, record.timestamp)
        for source, offset, record in told
    )
    apply(store, STORY)
    for one in PEOPLE:
        assert store.visitor(one) == store.visitor(resolved.resolve(one))
    assert resolved.merged() == {"a": "v", "u": "v", "b": "v"}


def neighbours(store: OnlineStore) -> dict[str, dict[str, int]]:
    """Each item's neighbours; the masses are compared to a ten-thousandth, since sums of floats
    depend on their order.
    """
    ids = [f"i{n}" for n in range(7)]
    return {
        item_id: {other: round(mass / 100) for other, mass in state.neighbours.items()}
        for item_id, state in zip(ids, store.items(ids), strict=True)
        if state is not None
    }


@pytest.mark.parametrize("again", [1, 3, 12])
def test_pairs_count_once_for_both_items_wherever_a_writer_is_stopped(
    redis_settings: RedisSettings, store: OnlineStore, again: int
) -> None:
    steps = [view(PEOPLE[number % 2], number, "t:0") for number in range(12)]
    for start in range(0, 12, 4):
        store.apply(steps[start : start + 4])
    due = neighbours(store)
    assert due["i0"] and due["i6"]
    for writes in itertools.count():
        namespace = f"t-{uuid.uuid4().hex[:12]}"
        stopped, done = interrupted_store(redis_settings, namespace, writes), 0
        try:
            for done in range(0, 12, 4):
                stopped.apply(steps[done : done + 4])
            finished = True
        except StoppedError:
            finished = False
        stopped.close()
        after = OnlineStore(redis_settings, namespace)
        for start in range(max(0, done - 4), 12, again):  # other batches than before
            after.apply(steps[start : start + again])
        assert neighbours(after) == due
        after.close()
        if finished:
            break
    assert writes > 20
