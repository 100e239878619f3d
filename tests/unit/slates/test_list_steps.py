"""The steps of a shop's lists, in the pipeline on fakes."""

from dataclasses import replace

import numpy as np
import pytest

from slipstream.features.visitor import SequenceEvent, VisitorState
from slipstream.models.neighbours import HistoryWeighting, ItemToItem
from slipstream.recommender.bundle import Bundle
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import SlateRequest, Step
from tests.unit.serving.fakes import FakeOnline, Setting, item_record, model

TRENDING = [("item-30", 9.0), ("item-31", 8.0)]
SHOES = "category == 'shoes'"


def ids(answer: MadeSlate) -> list[str]:
    return [item.item_id for item in answer.items]


def with_baskets(bundle: Bundle, *pairs: tuple[int, int, float]) -> Bundle:
    rows = [[pair for pair in pairs if pair[0] == item] for item in range(len(bundle.item_ids))]
    return replace(
        bundle,
        baskets=ItemToItem(
            np.array([strength for row in rows for _, _, strength in row], np.float32),
            np.array([other for row in rows for _, other, _ in row], np.int32),
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            HistoryWeighting(by_event=False),
        ),
    )


async def popular(setting: Setting, n: int = 3, window: str = "week", **more: object) -> MadeSlate:
    return await setting.line.answer(
        SlateRequest(
            n,
            history=(),
            steps=(Step.POPULAR, Step.TRENDING),
            window=window,
            **more,  # type: ignore[arg-type]
        )
    )


async def test_popular_items_are_those_of_the_window_filled_up_with_trending_ones() -> None:
    online = FakeOnline(trending=TRENDING, popular={"week": [("a", 3.0), ("b", 2.0)]})
    answer = await popular(Setting(online))
    assert (answer.answered_by, ids(answer)) == (Step.POPULAR, ["a", "b", "item-30"])
    assert [(item.score, item.source) for item in answer.items] == [
        (3.0, "popular"),
        (2.0, "popular"),
        (0.0, "trending"),
    ]
    assert answer.reason == "popular had 2 of 3 items; 1 more are trending"
    empty = await popular(Setting(online), window="hour")
    assert (empty.answered_by, empty.reason) == (
        Step.TRENDING,
        "nothing was in demand in this hour",
    )


async def test_popular_items_meet_the_filter_and_may_be_shown() -> None:
    setting = Setting(FakeOnline(popular={"week": [(name, 1.0) for name in "abcd"]}))
    for name, more in (("a", {}), ("b", {"available": False}), ("c", {}), ("d", {})):
        kind = {"category": "hats" if name == "c" else "shoes"}
        setting.catalog.apply(item_record(name, attributes=kind, **more))
    assert ids(await popular(setting, filter=SHOES)) == ["a", "d"]
    answer = await popular(setting, filter=SHOES, exclude=frozenset({"a"}))
    assert ids(answer) == ["d"]


async def test_without_the_store_popular_items_are_those_of_the_model(bundle: Bundle) -> None:
    online = FakeOnline(popular={"week": [("a", 3.0)]})
    online.away = True
    answer = await popular(Setting(online, model(bundle)))
    assert (answer.answered_by, len(answer.items)) == (Step.TRENDING, 3)
    assert answer.reason == "the online store does not answer"


async def test_a_list_that_fails_leaves_the_slate_to_the_next_step(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = with_baskets(bundle, (1, 2, 0.4))
    monkeypatch.setattr(ItemToItem, "score", lambda *_: 1 / 0)
    wanted = SlateRequest(
        2, history=(), similar_to=("item-01",), steps=(Step.BOUGHT_TOGETHER, Step.TRENDING)
    )
    setting = Setting(FakeOnline(trending=TRENDING), model(broken))
    answer = await setting.line.answer(wanted)
    assert (answer.answered_by, ids(answer)) == (Step.TRENDING, ["item-30", "item-31"])
    assert answer.reason == "the list of bought_together items failed"


async def test_new_items_come_in_the_order_in_which_they_appeared() -> None:
    setting = Setting(FakeOnline())
    for at, name in enumerate(("old", "gone", "new"), 1):
        setting.catalog.apply(item_record(name, at))
    setting.catalog.apply(item_record("old", 9, attributes={"price": 3}))
    setting.catalog.apply(item_record("gone", 10, deleted=True))
    answer = await setting.line.answer(SlateRequest(5, history=(), steps=(Step.NEW,)))
    assert [(item.item_id, item.score) for item in answer.items] == [("new", 3.0), ("old", 1.0)]
    assert (answer.answered_by, answer.reason) == (Step.NEW, "")


async def test_recently_viewed_items_are_the_visitors_own_each_once_newest_first() -> None:
    events = [
        SequenceEvent(item, "view", at) for at, item in enumerate(("a", "b", "gone", "a", "c"), 1)
    ]
    setting = Setting(FakeOnline({"ada": VisitorState(events, {"view": 5}, 1, 5)}))
    setting.catalog.apply(item_record("gone", available=False))
    wanted = SlateRequest(5, "ada", repeats=True, steps=(Step.RECENT,))
    answer = await setting.line.answer(wanted)
    assert [(item.item_id, item.score) for item in answer.items] == [("c", 5), ("a", 4), ("b", 2)]
    assert answer.history_length == 5
    nobody = await setting.line.answer(replace(wanted, user_id="nobody"))
    assert (nobody.answered_by, nobody.reason) == (Step.NONE, "the visitor is not known")


@pytest.mark.parametrize(
    ("cart", "companions"),
    [(("item-01",), ["item-02", "item-03"]), (("item-01", "item-02"), ["item-03"])],
)
async def test_companions_of_a_cart_are_of_its_baskets_and_then_similar(
    bundle: Bundle, cart: tuple[str, ...], companions: list[str]
) -> None:
    known = with_baskets(bundle, (1, 2, 0.4), (1, 3, 0.1), (2, 3, 0.3))
    setting = Setting(FakeOnline(trending=TRENDING), model(known, "7"))
    wanted = SlateRequest(
        8,
        history=(),
        similar_to=cart,
        steps=(Step.BOUGHT_TOGETHER, Step.SIMILAR, Step.TRENDING),
    )
    answer = await setting.line.answer(wanted)
    assert (answer.answered_by, answer.model_version) == (Step.BOUGHT_TOGETHER, "7")
    assert ids(answer)[: len(companions)] == companions
    sources = {item.source for item in answer.items[: len(companions)]}
    assert (sources, len(answer.items)) == ({"bought_together"}, 8)
    assert not set(cart) & set(ids(answer))
    setting.model = model(bundle, "8")
    without = await setting.line.answer(wanted)
    assert without.answered_by == Step.SIMILAR
    assert "no basket with a named item and another one is known" in without.reason


async def test_a_kept_list_is_filtered_by_what_the_catalogue_knows_by_now() -> None:
    setting = Setting(FakeOnline(popular={"week": [("a", 3.0), ("b", 2.0), ("c", 1.0)]}))
    setting.catalog.apply(item_record("a", attributes={"category": "shoes"}))
    assert ids(await popular(setting, filter=SHOES)) == ["a"]
    setting.catalog.apply(item_record("c", 2, attributes={"category": "shoes"}))
    assert ids(await popular(setting, filter=SHOES)) == ["a", "c"]
    setting.catalog.apply(item_record("a", 3, attributes={"category": "hats"}))
    assert ids(await popular(setting, filter=SHOES)) == ["c"]
