"""Merges of visitors into users: what links, erasures and readers do to the states."""

import asyncio

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord, StreamInteraction
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.features.identity import Identities, Link
from slipstream.features.visitor import VisitorState
from slipstream.stores import layout
from slipstream.stores.layout import Keys, MergeMarker
from slipstream.stores.online import OnlineReader, OnlineStore
from tests.integration.merge_stories import (
    NOW,
    PEOPLE,
    STORY,
    apply,
    contents,
    link,
    view,
)


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
    store.apply([view(name, number) for number, name in enumerate(PEOPLE)])
    links = [
        link("a", "u", 0),
        link("a", "v", 1),
        link("u", "a", 2),
        link("b", "b", 3),
        link("u", "c", 4),
        link("a", "c", 5),
    ]
    linked = store.link(links)
    assert linked.outcomes == {"merged": 2, "other": 1, "itself": 2, "known": 1, "invalid": 0}
    assert store.visitor("a") == store.visitor("c") == store.visitor("u")
    assert store.visitor("v").counts == store.visitor("b").counts == {"view": 1}
    incomplete = CatalogRecord(entity="identity", entity_id="b", attributes={}, timestamp=NOW)
    assert store.link([StreamCatalogRecord("c:0", 9, incomplete)]).outcomes["invalid"] == 1


def test_impressions_come_along_once_and_go_with_the_user(store: OnlineStore) -> None:
    seen = [view(name, number, kind="impression") for number, name in enumerate("auab")]
    store.apply(seen[:2])
    store.link([link("a", "u", 0)])
    store.apply(seen)
    store.link([link("b", "u", 1)])
    due = [(each.interaction.timestamp, each.interaction.item_id) for each in seen]
    assert store.visitor("a").impressions == store.visitor("u").impressions == due
    cut = {"interactions.v1": {"t:0": 5, "t:1": 5}}
    gone = CatalogRecord(entity="user", entity_id="u", deleted=True, timestamp=NOW, cut=cut)
    store.erase(StreamCatalogRecord("c:1", 9, gone))
    store.apply(seen)
    assert store.visitor("u").impressions == store.visitor("b").impressions == []


def test_a_visitor_never_seen_is_the_user_from_the_first_event_on(store: OnlineStore) -> None:
    store.link([link("a", "u", 0)])
    assert store.visitor("a") == VisitorState(merged={"a": {}}, is_user=True)
    assert store.apply([view("a", 1)]).keys() == {"u"}
    assert store.visitor("a").counts == {"view": 1}


def test_two_who_were_merged_into_each_other_at_one_moment_become_one(
    store: OnlineStore, namespace: str
) -> None:
    store.apply([view("a", 0), view("u", 1), view("u", 2)])
    keys = Keys(namespace)
    # Two writers begin at the same moment, before either goes on.
    for name, other in (("a", "u"), ("u", "a")):
        state = layout.decode_visitor(store._redis.get(keys.visitor(name)))
        store._redis.set(
            keys.visitor(name),
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
            "the state in the marker of a merge that was stopped half-way"
        )
        assert contents(store.visitor("a")) == contents(waiting)
        store.link([link("a", "u", 3), link("u", "v", 4)])
        states = await reader.visitors(["a", "b", "u", "v"])
        assert [state.counts["view"] for state in states if state] == [2, 1, 2, 2]
        assert states[0] == states[2] == states[3] == store.visitor("a")
        value = await reader.visitor_value("a")
        assert value is not None and (value.revision, value.state) == (b"", states[0])
        together = await asyncio.gather(*map(reader.visitor, ["a", "b", "u", "nobody", "v"]))
        assert together == [states[0], states[1], states[2], None, states[3]], (
            "readers of one turn share a command, whoever of them has markers to follow"
        )
    finally:
        await reader.aclose()


def test_a_long_way_is_shortened_when_it_is_used(store: OnlineStore, namespace: str) -> None:
    ids = [f"p{n}" for n in range(12)]
    views = [view("a", n)[2].model_copy(update={"user_id": name}) for n, name in enumerate(ids)]
    store.apply([StreamInteraction("t:0", n, event) for n, event in enumerate(views)])
    links = [
        link("a", ids[n + 1], n)[2].model_copy(update={"entity_id": name})
        for n, name in enumerate(ids[:-1])
    ]
    store.link([StreamCatalogRecord("c:0", 0, record) for record in links])
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


def test_erasure_forgets_user_and_members_up_to_its_cut_and_lets_nothing_come_back(
    store: OnlineStore,
) -> None:
    early = [view("a", 0), view("u", 1), view("b", 2)]
    store.apply(early)
    store.link([link("a", "u", 3)])
    ends = {"t:0": 5, "t:1": 5, "t:2": 5}
    cut = {"interactions.v1": ends, "people.v1": {"c:0": 5, "c:1": 5}}
    gone = StreamCatalogRecord(
        "c:1",
        5,
        CatalogRecord(entity="user", entity_id="u", deleted=True, timestamp=NOW - 9, cut=cut),
    )
    assert store.erase(gone) == ["a", "u"]
    held = {source: end - 1 for source, end in ends.items()} | {"c:0": 4, "c:1": 5}
    for name in ("u", "a"):
        assert store.visitor(name) == VisitorState(applied=held, is_user=True)
    store.apply([*early, view("a", 4)])
    assert store.visitor("u").counts == {}, "what stands before the cut changes nothing"
    store.apply([view("a", 6), view("u", 7)])
    assert store.erase(gone) == ["u"]
    assert store.visitor("u").counts == store.visitor("a").counts == {"view": 1}
    late = store.link([link("b", "u", 4)])  # from before the erasure, read after it
    assert late.outcomes["erased"] == 1 and store.visitor("b").counts == {}
    store.link([link("a", "u", 8)])
    assert store.visitor("u").counts == {"view": 2}, "a link from behind the cut counts"
    never_seen = gone.record.model_copy(update={"entity_id": "c"})
    assert store.erase(StreamCatalogRecord("c:1", 9, never_seen)) == ["c"]
    store.erasures.forget(["u", "a", "b", "c"])
    assert store.visitor("b") is store.visitor("c") is None


def test_traits_dated_ahead_go_with_an_erasure_and_those_behind_its_cut_stay(
    store: OnlineStore, namespace: str
) -> None:
    def traits(offset: int, at: int) -> StreamCatalogRecord:
        record = CatalogRecord(entity="user", entity_id="u", attributes={"n": offset}, timestamp=at)
        return StreamCatalogRecord("c:1", offset, record)

    def kept() -> bytes | None:
        return store._redis.hget(Keys(namespace).catalog("user", "u"), "record")

    ahead, late = traits(1, NOW + 86_400_000), traits(2, NOW + 86_400_000)
    cut = {"people.v1": {"c:1": 3}}
    gone = CatalogRecord(entity="user", entity_id="u", deleted=True, timestamp=NOW, cut=cut)
    store.put_catalog([ahead])
    store.erase(StreamCatalogRecord("c:1", 3, gone))
    assert kept() is None
    store.put_catalog([late])
    assert kept() is None, "from before the cut, read after the erasure"
    behind = traits(4, NOW - 86_400_000)  # by a clock that is a day slow
    store.put_catalog([behind])
    store.erase(StreamCatalogRecord("c:1", 3, gone))
    assert kept() == behind.record.model_dump_json().encode()
    store.erasures.forget(["u"])
    assert kept() == behind.record.model_dump_json().encode()


def test_history_resolves_ids_as_the_stream_did(store: OnlineStore) -> None:
    links = [step for step in STORY if isinstance(step, StreamCatalogRecord)]
    resolved = Identities(
        Link(record.entity_id, record.attributes[MERGED_INTO], source, offset, record.timestamp)
        for source, offset, record in links
    )
    apply(store, STORY)
    for name in PEOPLE:
        assert store.visitor(name) == store.visitor(resolved.resolve(name))
    assert resolved.merged() == {"a": "v", "u": "v", "b": "v"}
