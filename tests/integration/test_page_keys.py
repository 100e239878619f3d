"""What a key that web pages show to everyone may do to people, in the stream and in history."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from services.features.history.lake_snapshot import CatalogHistory
from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.page_visitors import apart_id
from slipstream.contracts.positions import StreamCatalogRecord, StreamInteraction
from slipstream.stores.online import OnlineStore
from tests.integration.merge_stories import NOW, PEOPLE, link, view

Step = StreamInteraction | StreamCatalogRecord


def anonymous(name: str, number: int) -> StreamInteraction:
    """A view by a visitor who belongs to no user yet."""
    source, offset, event = view(name, number)
    return StreamInteraction(source, offset, event.model_copy(update={"anonymous_id": name}))


def of_page(step: StreamCatalogRecord, *, proven: bool = False) -> StreamCatalogRecord:
    """A page's record, with the token of a server where it is proven."""
    record = step.record.model_copy(update={"by_browser": True, "proven": proven})
    return step._replace(record=record)


def in_name(name: str, number: int) -> StreamInteraction:
    """A view that a page of this visitor sends in a user's name without proof."""
    source, offset, event = view(name, number)
    return StreamInteraction(
        source,
        offset,
        event.model_copy(update={"anonymous_id": name, "user_id": apart_id(name)}),
    )


def traits(name: str, number: int, *, deleted: bool = False) -> StreamCatalogRecord:
    """A server's record of a user; its number is the trait."""
    record = CatalogRecord(
        entity="user",
        entity_id=name,
        attributes={} if deleted else {"n": number},
        deleted=deleted,
        timestamp=NOW + number,
    )
    return StreamCatalogRecord(f"c:{PEOPLE.index(name) % 2}", number, record)


def outcome(store: OnlineStore, step: StreamCatalogRecord) -> str:
    """The outcome of one link."""
    (name,) = +store.link([step]).outcomes
    return name


def test_a_page_links_an_anonymous_visitor_to_a_user(store: OnlineStore) -> None:
    store.apply([anonymous("a", 0), view("u", 1)])
    assert outcome(store, of_page(link("a", "u", 2))) == "merged"
    assert outcome(store, of_page(link("a", "u", 3))) == "known"
    assert outcome(store, of_page(link("b", "u", 4))) == "merged", "one who was never seen"
    assert store.visitor("u").counts == {"view": 2}


@pytest.mark.parametrize(
    "before",
    [
        [view("u", 0)],
        [anonymous("u", 0), view("u", 1), anonymous("u", 2)],
        [link("a", "u", 0)],
        [of_page(link("a", "u", 0))],
        [anonymous("u", 0), traits("u", 1)],
        [view("u", 0), traits("u", 1, deleted=True)],
    ],
    ids=["event", "one event", "login", "login by page", "traits", "erased"],
)
def test_a_page_does_not_link_one_who_has_been_a_user(
    store: OnlineStore, before: list[Step]
) -> None:
    stream = Stream(store)
    stream.apply(before)
    assert outcome(store, of_page(link("u", "v", 7))) == "refused"
    assert outcome(store, of_page(link("u", "v", 7))) == "refused", "read again"
    store.apply([view("v", 8)])
    assert store.visitor("v").counts == {"view": 1}
    assert outcome(store, link("u", "v", 9)) == "merged", "a server may"


def test_a_page_does_not_replace_what_a_server_said_of_a_user(
    redis_settings: RedisSettings, store: OnlineStore
) -> None:
    first, second = of_page(traits("u", 1)), of_page(traits("u", 2))
    put = store.put_catalog([first, second])
    assert put.refused == set(), "a page may change what a page said"
    assert store.put_catalog([traits("u", 3)]).refused == set()
    late = of_page(traits("u", 4))
    assert store.put_catalog([late]).refused == {late[:2]}
    assert store._catalog._record("user", "u").attributes == {"n": 3}
    store.erase(traits("u", 5, deleted=True))
    assert store.put_catalog([of_page(traits("u", 6))]).refused == set(), "a new visitor begins"
    assert store._catalog._record("user", "u").attributes == {"n": 6}


def told(step: Step) -> str:
    """A step in a few words, for a failing example."""
    if isinstance(step, StreamInteraction):
        event = step.interaction
        return f"{step.offset}: event of {event.user_id}/{event.anonymous_id}"
    record = step.record
    by = "page" if record.by_browser else "server"
    return f"{step.offset}: {record.entity} {record.entity_id} {record.attributes} by {by}"


@dataclass
class Stream:
    """The stream as features reads it, and the lake's catalogue after it."""

    store: OnlineStore
    lake: list[StreamCatalogRecord] = field(default_factory=list)

    def apply(self, steps: Sequence[Step], *, stopped: bool = False) -> None:
        """Apply a batch. A stopped one reaches the lake only when it is read again."""
        self.store.apply([step for step in steps if isinstance(step, StreamInteraction)])
        records = [step for step in steps if isinstance(step, StreamCatalogRecord)]
        links = [step for step in records if step.record.entity == "identity"]
        entries = [
            step for step in records if step.record.entity == "user" and not step.record.deleted
        ]
        without = self.store.put_catalog(entries).refused
        without |= self.store.link(links).without_effect
        for step in records:
            if step.record.deleted:
                self.store.erase(step)
        if not stopped:
            self.lake += [step for step in records if step[:2] not in without]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[Step], bool]]:
    """Random batches, each with whether it is stopped and read again."""
    steps: list[Step] = []
    for number in range(draw(st.integers(3, 25))):
        name, other = draw(st.permutations(PEOPLE))[:2]
        made = draw(
            st.sampled_from(
                [
                    view(name, number),
                    anonymous(name, number),
                    link(name, other, number),
                    of_page(link(name, other, number)),
                    of_page(link(name, other, number)),
                    of_page(link(name, other, number), proven=True),
                    in_name(name, number),
                    traits(name, number),
                    of_page(traits(name, number)),
                ]
            )
        )
        steps.append(made)
    batches: list[tuple[list[Step], bool]] = []
    while steps:
        size = draw(st.integers(1, 4))
        batches.append((steps[:size], draw(st.booleans())))
        del steps[:size]
    return batches


@settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])
@given(histories())
@pytest.mark.servers("real")  # it takes ten seconds
def test_stream_and_history_agree_on_who_is_whom_and_what_is_known(
    redis_settings: RedisSettings, batches: list[tuple[list[Step], bool]]
) -> None:
    store = OnlineStore(redis_settings, f"t-{uuid.uuid4().hex[:12]}")
    stream = Stream(store)
    for steps, stopped in batches:
        note(f"{stopped} {[told(step) for step in steps]}")
        if stopped:
            stream.apply(steps, stopped=True)
        stream.apply(steps)
    history = CatalogHistory(stream.lake, ())
    newest = {
        step.record.entity_id: step.record for step in stream.lake if step.record.entity == "user"
    }
    for name in PEOPLE:
        assert store._merges.end(name)[0] == history.identities.resolve(name)
        apart = apart_id(name)
        assert store._merges.end(apart)[0] == history.identities.resolve(apart)
        assert store._catalog._record("user", name) == newest.get(name)
    store.close()
