"""New items in lists and histories: what a visitor gets, by a real small bundle."""

import asyncio
from functools import partial

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.models.base import History
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.fit import FitOptions, fit
from slipstream.recommender.predict import predict, question_of
from slipstream.recommender.stages import Recommendation
from slipstream.slates.catalogue.borrowing import CONTENT, merged
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import SlateRequest, Step
from tests.unit.serving.fakes import (
    ITEMS,
    SHELVES,
    FakeOnline,
    Setting,
    described_bundle,
    interactions,
    item_record,
    model,
    visitor,
)

LONG = len(ITEMS)


def a_setting(bundle: Bundle | None = None, kept_lists: int = 0) -> Setting:
    online = FakeOnline({"ada": visitor("item-03", "item-04"), "bob": visitor("new-25")})
    served = model(bundle or described_bundle())
    setting = Setting(online, served, kept_lists=kept_lists)
    setting.catalog.mask(served)  # as a warm-up does
    return setting


def upsert(setting: Setting, item_id: str, shelf: str, timestamp: int = 1, **more: object) -> None:
    attributes = {"shelf": shelf, **more.pop("attributes", {})}  # type: ignore[dict-item]
    setting.catalog.apply(item_record(item_id, timestamp, attributes=attributes, **more))
    setting.catalog.compare_new_items(1.0)


async def recommend(
    setting: Setting, user_id: str = "ada", n: int = 5, **more: object
) -> MadeSlate:
    request = SlateRequest(n, user_id, steps=(Step.MODEL,), **more)  # type: ignore[arg-type]
    return await setting.line.answer(request)


def ids(answer: MadeSlate) -> list[str]:
    return [item.item_id for item in answer.items]


async def test_a_new_item_is_recommended_by_the_model_at_the_next_request() -> None:
    for kept_lists in (0, 10):
        setting = a_setting(kept_lists=kept_lists)
        before = await recommend(setting)
        upsert(setting, "new-05", SHELVES["item-05"])
        upsert(setting, "far", SHELVES["item-39"])
        answer = await recommend(setting)
        assert (answer.answered_by, answer.model_version, answer.reason) == (Step.MODEL, "1", "")
        (new,) = [item for item in answer.items if item.item_id not in ITEMS]
        assert (new.item_id, new.source) == ("new-05", CONTENT)
        assert new.score > 0
        assert [item for item in answer.items if item is not new] == before.items[:4]


async def test_a_click_on_a_new_item_is_answered_by_the_model() -> None:
    setting = a_setting()
    assert not (await recommend(setting, "bob")).items
    upsert(setting, "new-25", SHELVES["item-25"])
    upsert(setting, "other", SHELVES["item-25"])
    answer = await recommend(setting, "bob")
    assert (answer.answered_by, answer.reason) == (Step.MODEL, "")
    assert {"item-26", "other"} & set(ids(answer))
    assert "new-25" not in ids(answer)
    assert all(item in ITEMS[20:] for item in ids(answer) if item != "other")


async def test_items_that_the_model_knows_say_more_than_stand_ins() -> None:
    setting = a_setting()
    setting.online.visitors["ada"] = visitor("item-03", "item-04", "new-25")
    without = await recommend(setting)
    upsert(setting, "new-25", SHELVES["item-25"])
    assert (await recommend(setting)).items == without.items


async def test_items_of_the_history_lend_though_they_are_not_shown() -> None:
    setting = a_setting()
    upsert(setting, "new-02", SHELVES["item-02"])  # beside item-03, which ada has seen
    upsert(setting, "new-30", SHELVES["item-30"])
    answer = await recommend(setting)
    assert "new-02" in ids(answer)
    assert not {"item-03", "item-04", "new-30"} & set(ids(answer))


async def test_an_item_follows_its_attributes() -> None:
    setting = a_setting()
    upsert(setting, "new", SHELVES["item-39"])
    assert "new" not in ids(await recommend(setting))
    upsert(setting, "new", SHELVES["item-05"], timestamp=2)
    assert "new" in ids(await recommend(setting))


async def test_an_item_that_nobody_has_met_stays_new_after_a_training() -> None:
    shelves = {**SHELVES, "unmet": SHELVES["item-05"]}
    items = pa.table({"item_id": list(shelves), "shelf": list(shelves.values())})
    setting = a_setting(fit(interactions(), items, FitOptions(version="2", repeats=False)))
    upsert(setting, "unmet", SHELVES["item-05"])
    answer = await recommend(setting)
    assert [item.source for item in answer.items if item.item_id == "unmet"] == [CONTENT]


async def test_a_model_that_knows_the_item_has_it_once() -> None:
    setting = a_setting()
    upsert(setting, "item-05", SHELVES["item-05"])
    answer = await recommend(setting, n=LONG)
    assert ids(answer).count("item-05") == 1
    assert {item.source for item in answer.items}.isdisjoint({CONTENT}) or "content" in (
        described_bundle().retrievers
    )


async def test_a_model_without_an_index_answers_as_before(bundle: Bundle) -> None:
    setting = a_setting(bundle)
    before = await recommend(setting)
    upsert(setting, "new", SHELVES["item-05"])
    assert (await recommend(setting)).items == before.items


async def test_filters_apply_to_new_items() -> None:
    setting = a_setting()
    upsert(setting, "cheap", SHELVES["item-05"], attributes={"price": 5})
    upsert(setting, "dear", SHELVES["item-05"], attributes={"price": 50})
    answer = await recommend(setting, filter="price < 10")
    assert ids(answer) == ["cheap"]


async def test_a_list_measured_offline_has_new_items_as_the_list_served() -> None:
    bundle, setting = described_bundle(), a_setting()
    new = {"new-05": "item-05", "new-02": "item-02", "new-39": "item-39", "new-25": "item-25"}
    for item_id, like in new.items():
        upsert(setting, item_id, SHELVES[like])
    ids_of = [*bundle.item_ids, *new]
    places = np.arange(len(ids_of), dtype=np.int32)
    for user in ("ada", "bob"):
        history = setting.online.visitors[user].sequence
        met = np.array([ids_of.index(one.item_id) for one in history], np.int32)
        times = np.array([one.timestamp for one in history], np.int64)
        known = History(met, np.ones(len(met), np.float32), times)
        (shown,) = predict(
            bundle,
            [Query(known, -1)],
            partial(question_of, places=places),
            LONG + 4,
            described=[{"shelf": SHELVES[like]} for like in new.values()],
        ).shown
        served = ids(await recommend(setting, user, n=LONG + 4))
        assert [ids_of[item] for item in shown if item >= 0] == served
        assert set(served) & set(new)


NEW = [f"new-{number:02}" for number in range(8)]
KIN = {new: [ITEMS[place // 2 * 2], ITEMS[place // 2 * 2 + 1]] for place, new in enumerate(NEW)}
EVERYTHING = LONG + len(NEW)
SOME = st.sets(st.sampled_from([*NEW, *ITEMS[4:12]]))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 5, EVERYTHING]), SOME, SOME, SOME)
def test_what_may_not_be_shown_is_not_and_known_items_keep_their_order(
    n: int, hidden: set[str], expired: set[str], excluded: set[str]
) -> None:
    async def run() -> None:
        plain, setting = a_setting(), a_setting()
        for item_id in NEW:
            upsert(setting, item_id, SHELVES[item_id.replace("new", "item")])
        for each in (plain, setting):
            for item_id in hidden:
                record = {"attributes": {"shelf": "shelf 2"}, "available": False}
                each.catalog.apply(item_record(item_id, 2, **record))
            for item_id in expired - hidden:
                record = {"attributes": {"shelf": "shelf 2", "expires_at": 1_000}}
                each.catalog.apply(item_record(item_id, 2, **record))
            each.catalog.compare_new_items(1.0)
        answer = await recommend(setting, n=n, exclude=frozenset(excluded))
        without = await recommend(plain, n=LONG, exclude=frozenset(excluded))
        assert not {*hidden, *expired, *excluded} & set(ids(answer))
        known = [item for item in answer.items if item.item_id in ITEMS]
        assert known == without.items[: len(known)]
        if n == EVERYTHING:
            lenders = {"item-03", "item-04", *ids(without)}
            lent = {new for new, kin in KIN.items() if lenders & set(kin)}
            assert set(ids(answer)) >= lent - hidden - expired - excluded

    asyncio.run(run())


SCORES = st.lists(st.floats(0, 1, width=32), max_size=12).map(lambda each: sorted(each)[::-1])


@given(SCORES, SCORES, st.integers(0, 15))
def test_merged_list_is_the_best_of_both(known: list[float], new: list[float], n: int) -> None:
    lists = [
        [Recommendation(f"{name}-{place}", score, name) for place, score in enumerate(scores)]
        for name, scores in (("ease", known), (CONTENT, new))
    ]
    whole = merged(lists[0], lists[1], n)
    assert [each.score for each in whole] == sorted([*known, *new], reverse=True)[:n]
    for own in lists:
        kept = [each for each in whole if each.source == own[0].source] if own else []
        assert kept == own[: len(kept)]
