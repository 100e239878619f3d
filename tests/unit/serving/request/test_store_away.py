"""Answers while the online store is away, hangs, or comes back."""

import asyncio

import pytest

from services.serving.request import store_reads
from slipstream.features.visitor import VisitorState
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import SlateRequest, Step
from tests.unit.serving.fakes import FakeOnline, Setting, model, small_bundle, visitor

TRENDING = [("item-30", 9.0), ("item-31", 8.0), ("item-05", 7.0), ("item-32", 6.0)]


async def test_online_store_away_leaves_what_the_model_found_popular(bundle: Bundle) -> None:
    setting = Setting(FakeOnline({"ada": visitor("item-03")}), model(bundle))
    setting.online.away = True
    answer = await setting.line.answer(SlateRequest(5, "ada"))
    assert (answer.answered_by, len(answer.items)) == (Step.TRENDING, 5)
    assert "the online store does not answer" in answer.reason
    assert (
        setting.registry.get_sample_value(
            "slipstream_recommendations_degraded_total", {"missing": "online_store"}
        )
        == 1
    )


async def test_popular_items_are_the_models_work_once_while_the_online_store_is_away(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    recommend = stages.recommend
    monkeypatch.setattr(
        stages, "recommend", lambda *args, **options: calls.append(args) or recommend(*args)
    )
    setting = Setting(FakeOnline(), model(bundle))
    setting.online.away = True
    answers = [await setting.line.answer(SlateRequest(5, name)) for name in ("ada", "bob")]
    assert ids_of(answers[0]) == ids_of(answers[1])
    assert answers[0].model_version is None
    setting.model = model(small_bundle(), "8")  # another model's popular items are its own
    await setting.line.answer(SlateRequest(5, "ada"))
    assert len(calls) == 2


async def test_online_store_away_without_a_model_leaves_what_was_trending_before() -> None:
    setting = Setting(FakeOnline(trending=list(TRENDING)), None, trending_refresh_s=1e-9)
    await setting.line.answer(SlateRequest(1, steps=(Step.TRENDING,)))
    setting.online.away = True
    answer = await setting.line.answer(SlateRequest(2, "ada"))
    assert (answer.answered_by, ids_of(answer)) == (Step.TRENDING, ["item-30", "item-31"])


class HangingOnline(FakeOnline):
    """A store that hangs for as long as `hangs` says, and tells what was read from it."""

    def __init__(self, visitors: dict[str, VisitorState]) -> None:
        super().__init__(visitors, list(TRENDING))
        self.hangs, self.reads, self.ended = True, list[str](), list[str]()

    async def visitor(self, user_id: str) -> VisitorState | None:
        await self._hang("visitor")
        return await super().visitor(user_id)

    async def trending(self, n: int, window: str = "") -> list[tuple[str, float]]:
        await self._hang("trending")
        return await super().trending(n, window)

    async def _hang(self, read: str) -> None:
        self.reads.append(read)
        try:
            if self.hangs:
                await asyncio.Event().wait()
        finally:
            self.ended.append(read)


async def test_online_store_that_hangs_costs_one_deadline_and_not_one_for_each_read(
    bundle: Bundle,
) -> None:
    online = HangingOnline({})
    setting = Setting(online, model(bundle), redis_timeout_s=0.02)
    answer = await asyncio.wait_for(setting.line.answer(SlateRequest(5, "ada")), 60)
    assert (answer.answered_by, len(answer.items)) == (Step.TRENDING, 5)
    assert "the online store does not answer" in answer.reason
    assert online.ended == ["visitor"]  # nobody has waited for the trending list


async def test_online_store_that_hangs_is_not_asked_until_a_probe_has_heard_from_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = HangingOnline({"ada": visitor("item-03")})
    setting = Setting(online, model(bundle), redis_timeout_s=0.02, trending_refresh_s=3600.0)

    async def ask() -> Step:
        request = SlateRequest(5, "ada")
        return (await asyncio.wait_for(setting.line.answer(request), 60)).answered_by

    monkeypatch.setattr(store_reads, "PAUSE_S", 3600.0)
    while not circuit_open(setting):
        assert await ask() == Step.TRENDING
    asked = len(online.reads)
    for _ in range(10):
        assert await ask() == Step.TRENDING
    assert len(online.reads) == asked
    monkeypatch.setattr(store_reads, "PAUSE_S", 0.0)
    setting.line._store._breakers[""]._probe_at = 0.0
    online.hangs = False
    while circuit_open(setting):
        assert await ask() == Step.TRENDING
        await asyncio.sleep(0)
    assert await ask() == Step.MODEL


def ids_of(answer: MadeSlate) -> list[str]:
    return [item.item_id for item in answer.items]


def circuit_open(setting: Setting) -> bool:
    return setting.registry.get_sample_value("slipstream_online_store_circuit_open") == 1
