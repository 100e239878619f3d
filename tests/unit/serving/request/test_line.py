import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from slipstream.chassis.logging import carrying
from slipstream.chassis.metrics import Metrics
from slipstream.features.visitor import VisitorState
from slipstream.recommender.bundle import Bundle
from slipstream.slates.making import warm_up
from slipstream.slates.slate_request import SlateRequest, Step
from tests.spans import parent_of, place_of, traces_of
from tests.unit.serving.fakes import (
    ITEMS,
    FakeOnline,
    Setting,
    history,
    item_record,
    model,
    ranking,
    small_bundle,
    visitor,
)

TRENDING = [("item-30", 9.0), ("item-31", 8.0), ("item-05", 7.0), ("item-32", 6.0)]


def a_setting(bundle: Bundle | None, **visitors: VisitorState) -> Setting:
    return Setting(FakeOnline(visitors, list(TRENDING)), model(bundle, "7") if bundle else None)


def ids(answer: object) -> list[str]:
    return [item.item_id for item in answer.items]  # type: ignore[attr-defined]


async def test_known_visitor_is_answered_by_the_model_with_what_visitors_alike_did_next(
    bundle: Bundle,
) -> None:
    setting = a_setting(
        bundle, ada=visitor("item-03", "item-04", "item-05"), bob=visitor("item-25", "item-26")
    )
    ada = await setting.line.answer(SlateRequest(5, "ada"))
    bob = await setting.line.answer(SlateRequest(5, "bob"))
    assert (ada.answered_by, ada.reason, ada.model_version, ada.history_length) == (
        Step.MODEL,
        "",
        "7",
        3,
    )
    assert ids(ada)[0] == "item-06"
    assert ids(bob)[0] == "item-27"
    assert all(item in ITEMS[:20] for item in ids(ada))


async def test_the_event_loop_runs_between_the_visitors_of_one_request(bundle: Bundle) -> None:
    names = [f"visitor-{number}" for number in range(8)]
    setting = a_setting(bundle, **dict.fromkeys(names, visitor("item-03", "item-04")))
    answered: list[int] = []

    async def others() -> None:
        while True:
            answered.append(len(setting.slates))
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    answers = await setting.line.answer_each([SlateRequest(5, name) for name in names])
    beside.cancel()
    assert [answer.user_id for answer in answers] == names
    assert {ids(answer)[0] for answer in answers} == {"item-05"}
    assert all(later - earlier <= 1 for earlier, later in pairwise(answered)), answered


async def test_seen_items_are_left_out_unless_the_model_says_that_they_come_back(
    bundle: Bundle,
) -> None:
    seen = visitor("item-03", "item-04", "item-05", "item-06")
    answer = await a_setting(bundle, ada=seen).line.answer(SlateRequest(20, "ada"))
    assert not {"item-03", "item-04", "item-05", "item-06"} & set(ids(answer))
    returning = await a_setting(small_bundle(repeats=True), ada=seen).line.answer(
        SlateRequest(20, "ada")
    )
    assert "item-06" in ids(returning)


async def test_excluded_unavailable_deleted_and_expired_items_are_left_out(bundle: Bundle) -> None:
    setting = a_setting(bundle, ada=visitor("item-03"))
    setting.catalog.apply(item_record("item-04", available=False))
    setting.catalog.apply(item_record("item-05", deleted=True))
    setting.catalog.apply(item_record("item-06", attributes={"expires_at": 1_000}))
    answer = await setting.line.answer(SlateRequest(36, "ada", exclude=frozenset({"item-07"})))
    assert len(answer.items) == 35
    assert not {"item-03", "item-04", "item-05", "item-06", "item-07"} & set(ids(answer))


async def test_unknown_visitor_gets_what_is_trending_and_the_reason(bundle: Bundle) -> None:
    setting = a_setting(bundle)
    answer = await setting.line.answer(SlateRequest(2, "nobody"))
    assert (answer.answered_by, ids(answer)) == (Step.TRENDING, ["item-30", "item-31"])
    assert answer.reason == "the visitor is not known"
    assert (answer.model_version, setting.slates[0].model_version) == (None, None)


async def test_visitor_of_items_that_the_model_does_not_know_gets_items_alike_by_the_catalogue(
    bundle: Bundle,
) -> None:
    setting = a_setting(bundle, ada=visitor("new-boot"))
    for item_id, kind in (("new-boot", "boots"), ("other-boot", "boots"), ("hat", "hats")):
        setting.catalog.apply(item_record(item_id, attributes={"category": kind}))
    answer = await setting.line.answer(SlateRequest(3, "ada"))
    assert answer.answered_by == Step.SIMILAR
    assert ids(answer) == ["other-boot", "item-30", "item-31"]
    assert answer.items[1].score == 0
    assert "the model knows none of the items of the history" in answer.reason
    assert "similar had 1 of 3 items; 2 more are trending" in answer.reason
    assert answer.model_version is None  # it was the catalogue


async def test_without_a_model_the_history_still_counts_by_the_catalogue() -> None:
    setting = a_setting(None, ada=visitor("boot"))
    setting.catalog.apply(item_record("boot", attributes={"category": "boots"}))
    setting.catalog.apply(item_record("other-boot", attributes={"category": "boots"}))
    answer = await setting.line.answer(SlateRequest(1, "ada"))
    assert (answer.answered_by, ids(answer)) == (Step.SIMILAR, ["other-boot"])
    assert (answer.reason, answer.model_version) == ("no model is loaded yet", None)


async def test_without_a_model_and_without_history_trending_answers() -> None:
    answer = await a_setting(None).line.answer(SlateRequest(2, "nobody"))
    assert (answer.answered_by, ids(answer)) == (Step.TRENDING, ["item-30", "item-31"])
    assert answer.reason == "no model is loaded yet; the visitor is not known"


async def test_nothing_at_all_is_an_empty_answer_with_reasons() -> None:
    setting = Setting(FakeOnline(), None)
    answer = await setting.line.answer(SlateRequest(5, "ada"))
    assert (answer.answered_by, list(answer.items)) == (Step.NONE, [])
    assert (
        answer.reason == "no model is loaded yet; the visitor is not known; nothing is trending yet"
    )


async def test_session_is_answered_by_the_model_from_the_events_given(bundle: Bundle) -> None:
    setting = a_setting(bundle)
    answer = await setting.line.answer(SlateRequest(1, history=history("item-24", "item-25")))
    assert (answer.answered_by, ids(answer), answer.user_id) == (Step.MODEL, ["item-26"], "")
    assert setting.slates[0].user_id == f"anonymous:{answer.recommendation_id}"


async def test_similar_is_what_goes_with_the_item_and_never_the_item_itself(bundle: Bundle) -> None:
    asked = SlateRequest(
        4, history=(), similar_to=("item-08",), steps=(Step.SIMILAR, Step.TRENDING)
    )
    answer = await a_setting(bundle).line.answer(asked)
    assert (answer.answered_by, len(answer.items)) == (Step.SIMILAR, 4)
    assert answer.model_version == "7"
    assert "item-08" not in ids(answer)
    assert {"item-07", "item-09"} & set(ids(answer))


async def test_too_few_by_the_model_are_filled_up_and_it_says_so(bundle: Bundle) -> None:
    setting = a_setting(bundle, ada=visitor("item-03"))
    setting.online.top = [("brand-new", 3.0), ("item-03", 2.0), ("gone", 1.0), ("also-new", 0.5)]
    setting.catalog.apply(item_record("gone", deleted=True))
    answer = await setting.line.answer(SlateRequest(41, "ada"))
    assert (answer.answered_by, len(answer.items)) == (Step.MODEL, 41)
    assert ids(answer)[-2:] == ["brand-new", "also-new"]
    assert "model had 39 of 41 items; 2 more are trending" in answer.reason
    assert answer.model_version == "7"


async def test_every_answer_is_recorded_as_it_was_given(bundle: Bundle) -> None:
    setting = a_setting(bundle, ada=visitor("item-03", "item-04"))
    answer = await setting.line.answer(SlateRequest(3, "ada", placement="home"))
    (slate,) = setting.slates
    assert [item.item_id for item in slate.items] == ids(answer)
    assert (slate.recommendation_id, slate.user_id, slate.placement) == (
        answer.recommendation_id,
        "ada",
        "home",
    )
    assert (slate.answered_by, slate.model_version) == ("model", "7")
    assert (slate.features["history_length"], slate.features["views"]) == (2, 2)
    assert slate.latency_ms > 0
    assert (
        setting.registry.get_sample_value("slipstream_recommendations_total", {"step": "model"})
        == 1
    )


async def test_model_swapped_while_the_store_answers_does_not_mix_into_the_answer(
    bundle: Bundle,
) -> None:
    other = model(small_bundle(), "8")

    class Swapping(FakeOnline):
        async def visitor(self, user_id: str) -> VisitorState | None:
            setting.model = other
            return await super().visitor(user_id)

    setting = Setting(Swapping({"ada": visitor("item-03")}), model(bundle, "7"))
    first = await setting.line.answer(SlateRequest(3, "ada"))
    second = await setting.line.answer(SlateRequest(3, "ada"))
    assert (first.model_version, second.model_version) == ("7", "8")


async def test_rank_orders_the_callers_items_and_keeps_those_it_does_not_know_at_the_end(
    bundle: Bundle,
) -> None:
    setting = a_setting(bundle, ada=visitor("item-03", "item-04"))
    answer = await setting.line.answer(ranking("ada", ["unknown", "item-33", "item-05", "item-33"]))
    assert (answer.answered_by, ids(answer)) == (Step.MODEL, ["item-05", "item-33", "unknown"])
    assert answer.items[0].score > answer.items[1].score > answer.items[2].score == 0


async def test_a_ranked_list_is_an_impression_only_where_the_caller_says_so(
    bundle: Bundle,
) -> None:
    setting = a_setting(bundle, ada=visitor("item-03", "item-04"))
    await setting.line.answer(ranking("ada", ["item-33", "item-05"]))
    await setting.line.answer(ranking("ada", ["item-33", "item-05"], shown=True))
    await setting.line.answer(SlateRequest(2, "ada"))
    assert [slate.purpose for slate in setting.slates] == ["ranked", "shown", "shown"]


async def test_rank_for_an_unknown_visitor_goes_by_what_is_trending(bundle: Bundle) -> None:
    answer = await a_setting(bundle).line.answer(
        ranking("nobody", ["item-99", "item-32", "item-30"])
    )
    assert (answer.answered_by, ids(answer)) == (Step.TRENDING, ["item-30", "item-32", "item-99"])
    assert (answer.reason, answer.model_version) == ("the visitor is not known", None)


async def test_rank_of_items_that_nobody_knows_keeps_their_order() -> None:
    answer = await Setting(FakeOnline(), None).line.answer(ranking("ada", ["x", "a"]))
    assert (answer.answered_by, ids(answer)) == (Step.NONE, ["x", "a"])


def test_warm_up_refuses_a_model_that_cannot_answer(bundle: Bundle) -> None:
    setting = a_setting(bundle)
    warm_up(model(bundle), setting.catalog)
    with pytest.raises(ValueError):  # its arrays speak of items that it does not have
        warm_up(model(replace(bundle, item_ids=[])), setting.catalog)


async def test_a_traced_request_has_spans_of_its_stages_and_says_which_step_answered(
    bundle: Bundle,
) -> None:
    traces = traces_of(Metrics("serving"))
    setting = a_setting(bundle, ada=visitor("item-03", "item-04"))
    requests = (SlateRequest(5, "ada"), SlateRequest(5, "ada", diversity=0.5))
    for rid, request in zip(("plain", "varied"), requests, strict=True):
        with carrying(traced := traces.request(rid)):
            await setting.line.answer(request)
        assert traced.recorded is not None
        traced.recorded.answered("GET", rid, 200)
    setting.online.away = True
    with carrying(unread := traces.request("unread")):
        await setting.line.answer(SlateRequest(5, "ada"))
    assert unread.recorded is not None
    unread.recorded.answered("GET", "unread", 200)

    def stages_of(name: str) -> dict[str, bool]:
        whole = traces.named(f"GET {name}")
        parts = [span for span in traces.spans if parent_of(span) == place_of(whole)[36:52]]
        return {part.name: part.status.is_ok for part in parts}

    assert stages_of("plain") == {"features": True, "model": True, "response": True}
    assert stages_of("varied") == {
        "features": True, "model": True, "arrangement": True, "response": True,
    }  # fmt: skip
    assert stages_of("unread")["features"] is False
    steps = [(traces.named(f"GET {name}").attributes or {}) for name in ("plain", "unread")]
    assert [each["slipstream.step"] for each in steps] == [Step.MODEL, Step.TRENDING]


async def test_a_request_that_is_not_traced_has_no_span(bundle: Bundle) -> None:
    traces = traces_of(Metrics("serving"))
    setting = a_setting(bundle, ada=visitor("item-03", "item-04"))
    with carrying("r-1"):
        await setting.line.answer(SlateRequest(5, "ada"))
    assert traces.spans == ()
