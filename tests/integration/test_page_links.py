"""What a page's link shows of a user, without a proof and with one."""

import uuid
from collections.abc import Sequence

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.page_visitors import apart_id
from slipstream.contracts.positions import StreamInteraction
from slipstream.features import history
from slipstream.stores.online import OnlineStore, Retention
from slipstream.stores.rebuild import Rebuild, RebuiltVisitor
from tests.integration.merge_stories import NOW, link, view
from tests.integration.test_page_keys import (
    Step,
    Stream,
    anonymous,
    in_name,
    of_page,
    outcome,
    told,
    traits,
)


def seen(store: OnlineStore, name: str) -> list[str]:
    """The items that a reader of this visitor gets."""
    state = store.visitor(name)
    return [event.item_id for event in state.sequence] if state else []


def test_a_pages_link_shows_nothing_of_the_user_until_that_is_proven(store: OnlineStore) -> None:
    store.apply([anonymous("a", 0), view("u", 1)])
    assert outcome(store, of_page(link("a", "u", 2))) == "merged"
    store.apply([in_name("a", 3), view("u", 4)])
    assert seen(store, "a") == ["i0", "i3"]
    assert seen(store, "u") == ["i0", "i1", "i4"], "the device's history, and not the page's word"
    assert outcome(store, link("a", "u", 5)) == "known", "a server's word"
    assert seen(store, "a") == seen(store, "u") == ["i0", "i1", "i3", "i4"]
    store.apply([in_name("a", 6), anonymous("a", 12)])
    assert seen(store, "a") == seen(store, "u") == ["i0", "i1", "i3", "i4", "i6", "i5"]
    assert outcome(store, link("a", "u", 7)) == "known"


def test_a_rebuild_shows_nothing_of_the_user_either(
    redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    device, user = anonymous("a", 0), view("u", 1)
    store.apply([device, user])
    store.link([of_page(link("a", "u", 2))])
    state = history.visitor_state("u", [device, user])
    members, last = ("a", "b"), user.interaction.received_at
    rebuild = Rebuild(redis_settings, namespace, Retention(visitor_ttl_ms=2**53), lambda _: 9)
    rebuilt = RebuiltVisitor("u", state, members, last, frozenset(members))
    assert rebuild.visitors([rebuilt]) == []
    rebuild.close()
    assert (seen(store, "a"), seen(store, "b"), seen(store, "u")) == (["i0"], [], ["i0", "i1"])
    store.apply([in_name("b", 3), anonymous("b", 4)])
    assert (seen(store, "b"), seen(store, "u")) == (["i3"], ["i0", "i1", "i4"])


def test_a_servers_token_proves_a_pages_link(store: OnlineStore) -> None:
    store.apply([view("u", 1), in_name("a", 2)])
    assert outcome(store, of_page(link("a", "u", 3), proven=True)) == "merged"
    assert seen(store, "a") == seen(store, "u") == ["i1", "i2"]
    assert outcome(store, of_page(link("u", "v", 4), proven=True)) == "refused", "one who is a user"


def test_an_erasure_takes_what_a_page_sent_in_the_users_name(store: OnlineStore) -> None:
    store.apply([anonymous("a", 0), view("u", 1)])
    store.link([of_page(link("a", "u", 2))])
    store.apply([in_name("a", 3)])
    cut = {"t": {"t:0": 50, "t:1": 50, "t:2": 50}}
    asked = traits("u", 5, deleted=True)
    store.erase(asked._replace(record=asked.record.model_copy(update={"cut": cut})))
    store.apply([in_name("a", 4), anonymous("b", 6)])
    assert (seen(store, "a"), seen(store, "u"), seen(store, "a~unproven")) == ([], [], [])
    store.apply([in_name("a", 60)])
    assert seen(store, "a~unproven") == ["i4"], "a new visitor begins behind the cut"


@st.composite
def logins(draw: st.DrawFn) -> list[Step]:
    """Devices (a, b, c) and users (u, v): views, page's events in a user's name, and links."""
    steps: list[Step] = []
    for number in range(draw(st.integers(3, 16))):
        device, user = draw(st.sampled_from("abc")), draw(st.sampled_from("uv"))
        a_link = link(device, user, number)
        made = [anonymous(device, number), in_name(device, number), view(user, number)]
        made += [a_link, of_page(a_link), of_page(a_link), of_page(a_link, proven=True)]
        steps.append(draw(st.sampled_from(made)))
    return steps


def expected(steps: Sequence[Step], device: str) -> set[int]:
    """Numbers of the events that a reader of the device gets."""
    target: dict[str, str] = {}
    proven: dict[str, str] = {}
    unproven = set[str]()
    linked_at: dict[str, int] = {}
    for step in steps:
        if isinstance(step, StreamInteraction):
            continue
        record = step.record
        name, user = record.entity_id, record.attributes["user_id"]
        first = name not in target
        if first:
            target[name], linked_at[name] = user, step.offset
            if record.by_browser and not record.proven:
                unproven.add(name)
        if not record.by_browser or (record.proven and target[name] == user):
            proven.setdefault(name, user)
    events = [step for step in steps if isinstance(step, StreamInteraction)]

    def user_of(visitor_id: str) -> str:
        name = visitor_id.removesuffix("~unproven")
        return (proven if visitor_id != name else target).get(name, visitor_id)

    reached = target[device] if device in target and device not in unproven else None
    reached = proven.get(device) if device in unproven else reached
    if reached is not None:
        return {each.offset for each in events if user_of(each.interaction.user_id) == reached}
    own = {each.offset for each in events if each.interaction.user_id == device}
    if device not in target:
        return own
    apart = {each.offset for each in events if each.interaction.user_id == apart_id(device)}
    return {offset for offset in own if offset < linked_at[device]} | apart


@settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
@given(logins())
def test_readers_of_a_device_get_what_it_did_or_what_its_proven_user_did(
    redis_settings: RedisSettings, steps: list[Step]
) -> None:
    store = OnlineStore(redis_settings, f"t-{uuid.uuid4().hex[:12]}")
    for step in steps:
        note(told(step))
        Stream(store).apply([step])
    for device in "abc":
        state = store.visitor(device)
        times = {(event.timestamp - NOW) // 60_000 for event in state.sequence} if state else set()
        assert times == expected(steps, device), device
    store.close()
