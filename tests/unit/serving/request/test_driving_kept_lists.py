"""Kept lists: they are what the model would answer, and go in time."""

import asyncio
import weakref
from functools import cache

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.serving.request.driving import LIFETIME_S, KeptList, KeptLists, ListKey
from slipstream.contracts.events import SlateItems
from slipstream.features.visitor import VisitorState
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Recommendation
from slipstream.slates.slate_request import SlateRequest, VisitorReading
from slipstream.stores.online import VisitorValue
from tests.unit.serving.app_on_fakes import URL, make_app
from tests.unit.serving.fakes import (
    ITEMS,
    FakeOnline,
    Setting,
    history,
    item_record,
    model,
    small_bundle,
    visitor,
)

KEY: ListKey = (b"revision", frozenset(), 5, None, frozenset(), 0)
LIST = SlateItems([Recommendation("item-01", 0.5, "ease")])
KEPT = KeptList(VisitorReading(), LIST)


# Fitted once, and not where tests are only collected.
bundle = cache(small_bundle)


def kept(setting: Setting) -> float:
    return setting.registry.get_sample_value("slipstream_kept_lists_total") or 0.0


def a_setting(kept_lists: int = 10) -> Setting:
    online = FakeOnline({"ada": visitor("item-03", "item-04")})
    return Setting(online, model(bundle()), kept_lists=kept_lists)


# A click on an item; an item that is shown or hidden from now on; a request for some items.
CLICKS = st.tuples(st.just("click"), st.sampled_from(ITEMS))
VISIBILITY = st.tuples(st.sampled_from(["show", "hide"]), st.sampled_from([*ITEMS[:8], "new"]))
REQUESTS = st.tuples(st.just("ask"), st.integers(1, 3))


@settings(max_examples=40, deadline=None)
@given(st.lists(CLICKS | VISIBILITY | REQUESTS | REQUESTS, max_size=30))
def test_answers_are_those_of_a_service_that_keeps_nothing(steps: list[tuple[str, object]]) -> None:
    keeping, making = a_setting(), a_setting(kept_lists=0)

    async def run() -> None:
        seen = ["item-03", "item-04"]
        for at, (what, value) in enumerate(steps):
            for setting in (keeping, making):
                if what == "ask":
                    continue
                if what == "click":
                    setting.online.visitors["ada"] = visitor(*seen, str(value))
                else:
                    record = item_record(str(value), timestamp=at, available=what == "show")
                    setting.catalog.apply(record)
            if what == "click":
                seen.append(str(value))
            elif what == "ask":
                request = SlateRequest(int(str(value)), "ada")
                answers = [await each.line.answer(request) for each in (keeping, making)]
                assert answers[0].items == answers[1].items

    asyncio.run(run())
    assert kept(making) == 0


async def test_a_visitor_who_does_nothing_gets_the_kept_list_and_a_slate_of_its_own(
    bundle: Bundle,
) -> None:
    setting = a_setting()
    first, second = [await setting.line.answer(SlateRequest(5, "ada")) for _ in range(2)]
    assert kept(setting) == 1
    assert first.items == second.items and second.model_version == "1"
    assert len({slate.recommendation_id for slate in setting.slates}) == 2
    setting.model = model(bundle, "2")
    third = await setting.line.answer(SlateRequest(5, "ada"))
    assert (kept(setting), third.model_version) == (1, "2")


async def test_a_kept_list_is_found_before_the_state_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting, decoded = a_setting(), list[str]()
    state = VisitorValue.state.fget
    assert state is not None

    def noted(value: VisitorValue) -> VisitorState:
        decoded.append("ada")
        return state(value)

    monkeypatch.setattr(VisitorValue, "state", property(noted))
    answers = [await setting.line.answer(SlateRequest(5, "ada")) for _ in range(3)]
    assert (kept(setting), decoded) == (2, ["ada"])
    assert [each.history_length for each in answers] == [2, 2, 2]
    # What is recorded is what was read, and features are those of the moment.
    first, *others = setting.slates
    assert all(each.circumstances.keys() == first.circumstances.keys() for each in others)
    assert all(each.circumstances["history"] == first.circumstances["history"] for each in others)
    assert all(each.features.keys() == first.features.keys() for each in others)


async def test_a_visitor_who_is_erased_gets_no_kept_list() -> None:
    setting = a_setting()
    for _ in range(2):
        assert (await setting.line.answer(SlateRequest(5, "ada"))).answered_by == "model"
    assert kept(setting) == 1
    del setting.online.visitors["ada"]
    answer = await setting.line.answer(SlateRequest(5, "ada"))
    assert (answer.answered_by, answer.history_length, kept(setting)) == ("trending", 0, 1)
    # Who comes again begins anew, and has another revision.
    setting.online.visitors["ada"] = visitor("item-25")
    again = await setting.line.answer(SlateRequest(5, "ada"))
    assert (again.history_length, kept(setting)) == (1, 1)


async def test_the_state_behind_a_marker_is_known_by_its_events() -> None:
    setting = a_setting()
    setting.online.users_of["ada"] = "user"
    first, second = [await setting.line.answer(SlateRequest(5, "ada")) for _ in range(2)]
    assert first.items == second.items and kept(setting) == 1
    # The marker stays as it is when the user does something.
    setting.online.visitors["ada"] = visitor("item-03", "item-04", "item-25")
    third = await setting.line.answer(SlateRequest(5, "ada"))
    assert (third.history_length, kept(setting)) == (3, 1)


async def test_events_of_the_request_count_beside_a_kept_list() -> None:
    setting = a_setting()
    await setting.line.answer(SlateRequest(5, "ada"))
    more = await setting.line.answer(SlateRequest(5, "ada", events=history("item-25")))
    assert (more.history_length, kept(setting)) == (3, 0)


async def test_an_item_that_expires_leaves_a_kept_list() -> None:
    setting, now = a_setting(), [1_000.0]
    setting.catalog._now = lambda: now[0]
    first = (await setting.line.answer(SlateRequest(3, "ada"))).items[0].item_id
    setting.catalog.apply(item_record(first, attributes={"expires_at": 2_000}))
    for moment, shown in ((1_999.0, True), (2_000.0, False)):
        now[0] = moment
        answer = await setting.line.answer(SlateRequest(3, "ada"))
        assert (first in {item.item_id for item in answer.items}) is shown


def test_what_is_kept_names_nobody() -> None:
    state = VisitorState(merged={"anonymous-7": {"a:0": 3}}, applied={"a:0": 3})
    made = KeptList.of(VisitorReading(state=state), LIST)
    assert "anonymous-7" not in repr(made) and state.merged


async def test_an_item_that_is_sold_out_leaves_at_once() -> None:
    setting = a_setting()
    before = await setting.line.answer(SlateRequest(3, "ada"))
    gone = before.items[0].item_id
    setting.catalog.apply(item_record(gone, available=False))
    after = await setting.line.answer(SlateRequest(3, "ada"))
    assert gone not in {item.item_id for item in after.items}
    # A change that hides and shows nothing leaves the lists alone.
    setting.catalog.apply(item_record("item-39", timestamp=2, attributes={"price": 3}))
    await setting.line.answer(SlateRequest(3, "ada"))
    assert kept(setting) == 1


async def test_no_cache_asks_the_model() -> None:
    setting = a_setting()
    transport = httpx.ASGITransport(make_app(setting))
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        for headers, wanted in (({}, 0), ({"Cache-Control": "no-cache"}, 0), ({}, 1)):
            answer = await client.get("/v1/recommendations/ada", headers=headers)
            assert answer.json()["answered_by"] == "model"
            assert kept(setting) == wanted


@pytest.mark.parametrize("value", ["No-Cache", "max-age=0, no-cache"])
async def test_no_cache_is_found_in_any_case_and_among_other_directives(value: str) -> None:
    setting = a_setting()
    transport = httpx.ASGITransport(make_app(setting))
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        for headers in ({}, {"Cache-Control": value}):
            await client.get("/v1/recommendations/ada", headers=headers)
    assert kept(setting) == 0


async def test_names_that_the_model_does_not_know_are_not_kept() -> None:
    setting = a_setting()
    for name in ("x" * 1_000_000, "other"):
        request = SlateRequest(3, "ada", exclude=frozenset({name, "item-09"}))
        await setting.line.answer(request)
    assert kept(setting) == 1
    assert setting.model is not None
    (key,) = setting.line.kept_lists.of(setting.model)
    assert "item-09" in repr(key) and "xx" not in repr(key)


class WatchedList(SlateItems):
    """A list that a weak reference may name."""


def test_a_sweep_deletes_what_nobody_asks_for_any_more() -> None:
    now = 0.0
    lists, served = KeptLists(2, lambda: now), model(bundle())
    given = WatchedList(LIST)
    lists.of(served)[KEY] = KeptList(VisitorReading(), given)
    watched = weakref.ref(given)
    del given
    now = LIFETIME_S - 1
    lists.sweep()
    assert watched() is not None
    now = LIFETIME_S
    lists.sweep()
    assert watched() is None


def test_lists_go_after_their_time_and_with_their_model() -> None:
    now = 0.0
    lists, served = KeptLists(2, lambda: now), model(bundle())
    lists.of(served)[KEY] = KEPT
    now = LIFETIME_S - 1
    assert lists.of(served)[KEY] == KEPT
    now = LIFETIME_S
    assert KEY not in lists.of(served)
    for n in range(3):
        lists.of(served)[(b"revision", frozenset(), n, None, 0)] = KEPT
    assert len(lists.of(served)) == 2
    del served
    assert len(lists._of_models) == 0


def test_without_room_nothing_is_kept() -> None:
    lists, served = KeptLists(0), model(bundle())
    lists.of(served)[KEY] = KEPT
    assert KEY not in lists.of(served)
