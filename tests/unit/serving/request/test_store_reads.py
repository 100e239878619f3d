"""Reads of the online store: circuit, deadlines, rates of keys, and the load of a process."""

import asyncio
import socket
import time

import pytest
from prometheus_client import CollectorRegistry

from services.serving.metrics import ServingMetrics
from services.serving.request import store_reads
from services.serving.request.store_reads import (
    FAILURES,
    PAUSE_S,
    TICKS,
    Budget,
    CircuitBreaker,
    HearingClock,
    KeyRates,
    Load,
    OverloadedError,
    StoreReads,
)
from slipstream.chassis.errors import TooManyRequestsError
from slipstream.features.visitor import VisitorState
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import SlateRequest, Step
from slipstream.stores.online import StoreUnavailableError
from tests.unit.serving.fakes import FakeOnline, Setting, model, small_bundle, visitor
from tests.waiting import Clock


def test_circuit_opens_after_failures_in_a_row_and_lets_one_probe_through_a_pause() -> None:
    now, changes = [0.0], list[bool]()
    breaker = CircuitBreaker(changes.append, lambda: now[0])

    def fail(times: int) -> None:
        for _ in range(times):
            breaker.failed(now[0])

    fail(FAILURES - 1)
    breaker.succeeded()
    fail(FAILURES - 1)
    assert not breaker.open
    fail(1)
    assert (breaker.open, breaker.takes_probe()) == (True, False)
    now[0] = PAUSE_S
    assert [breaker.takes_probe(), breaker.takes_probe()] == [True, False]
    fail(1)
    assert not breaker.takes_probe()
    now[0] *= 2
    assert breaker.takes_probe()
    breaker.succeeded()
    assert (breaker.open, breaker.takes_probe(), changes) == (False, False, [True, False])


def test_reads_that_failed_together_count_as_one() -> None:
    now = [0.0]
    breaker = CircuitBreaker(lambda _: None, lambda: now[0])
    for _ in range(100):
        now[0] += 0.001
        breaker.failed(began=0.0)
    assert not breaker.open
    for _ in range(FAILURES):
        breaker.failed(began=now[0])
    assert breaker.open


async def test_whatever_a_read_raises_the_store_is_unavailable_and_others_still_ask_it() -> None:
    class Faulty(FakeOnline):
        async def visitor(self, user_id: str) -> VisitorState | None:
            if user_id == "odd":
                raise KeyError(user_id)
            return await super().visitor(user_id)

    reads = StoreReads(
        Faulty({"ada": visitor("item-03")}), ServingMetrics(CollectorRegistry()), 10.0
    )
    for _ in range(FAILURES + 1):
        with pytest.raises(StoreUnavailableError):
            await reads.visitor("odd", reads.budget())
    assert await reads.visitor("ada", reads.budget()) is not None


class TwoNodes(FakeOnline):
    """Visitors of two nodes by the first letter of their ids, of which `dead` does not answer."""

    dead = ""
    asked = 0

    def node(self, user_id: str | None = None) -> str:
        return user_id[0] if user_id else "a"

    async def visitor(self, user_id: str) -> VisitorState | None:
        self.asked += 1
        if self.node(user_id) == self.dead:
            raise StoreUnavailableError("away")
        return await super().visitor(user_id)


async def test_while_a_node_is_away_what_the_others_hold_is_read() -> None:
    registry, nodes = CollectorRegistry(), TwoNodes({"ada": visitor("item-03")})
    reads = StoreReads(nodes, ServingMetrics(registry), 10.0)

    async def answers(user_id: str) -> bool:
        try:
            await reads.visitor(user_id, reads.budget())
        except StoreUnavailableError:
            return False
        return True

    def circuit_open() -> bool:
        return registry.get_sample_value("slipstream_online_store_circuit_open") == 1

    nodes.dead = "b"
    for _ in range(FAILURES):
        assert await answers("ada")
        assert not await answers("bob")
    asked = nodes.asked
    assert not await answers("bob")
    assert nodes.asked == asked, "a node that is away is not asked"
    assert await answers("ada")
    assert circuit_open()
    # Another node takes over what the dead one held.
    assert await answers("cyd")
    assert not circuit_open()


BUDGET_S = 0.1


async def _answer_over_a_socket(turns: int, answered_in: int) -> bytes:
    """What is read from a peer, within the budget, while the loop is busy for so many turns.

    Every turn takes half of the budget. The peer answers in one of them.
    """
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    loop = asyncio.get_running_loop()

    def work(turn: int) -> None:
        if turn == answered_in:
            theirs.send(b"x")
        time.sleep(BUDGET_S / 2)
        if turn + 1 < turns:
            loop.call_soon(work, turn + 1)

    loop.call_soon(work, 0)
    try:
        clock = HearingClock(BUDGET_S / TICKS)
        return await clock.wait(reader.readexactly(1), Budget(BUDGET_S))
    finally:
        writer.close()
        theirs.close()


@pytest.mark.parametrize("answered_in", [0, 1, 3])
async def test_answer_that_a_busy_loop_hears_late_counts(answered_in: int) -> None:
    assert await _answer_over_a_socket(5, answered_in) == b"x"


async def test_silence_ends_the_wait_and_spends_the_budget() -> None:
    clock, budget = HearingClock(0.001), Budget(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(clock.wait(asyncio.Event().wait(), budget), 60)
    assert budget.left_s < 0.001


async def test_budget_is_for_all_waits_together() -> None:
    clock, budget = HearingClock(0.001), Budget(0.02)
    answer = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(clock.wait(answer, budget))
    await asyncio.sleep(0)  # it waits now, and its clock ticks before the sleep below has ended
    await asyncio.sleep(0.01)
    answer.set_result("first")
    assert await first == "first"
    assert budget.left_s < 0.02
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(clock.wait(asyncio.Event().wait(), budget), 60)
    assert budget.left_s < 0.001


def test_a_key_may_ask_for_a_seconds_lists_at_once_and_then_as_they_come() -> None:
    clock = Clock()
    rates = KeyRates(10, clock)
    for _ in range(10):
        rates.take("shop")
    with pytest.raises(TooManyRequestsError) as refusal:
        rates.take("shop")
    assert refusal.value.headers["Retry-After"] == "1"
    rates.take("another")
    clock.now += 0.1
    rates.take("shop")
    with pytest.raises(TooManyRequestsError):
        rates.take("shop")


def test_a_request_for_more_than_a_second_gives_is_taken_once_and_paid_for_later() -> None:
    clock = Clock()
    rates = KeyRates(10, clock)
    rates.take("shop", 50)
    clock.now += 3.5
    with pytest.raises(TooManyRequestsError):
        rates.take("shop", 50)
    with pytest.raises(TooManyRequestsError) as refusal:
        rates.take("shop")
    assert refusal.value.headers["Retry-After"] == "1"
    clock.now += 0.6
    rates.take("shop")


def test_without_a_rate_everything_is_taken() -> None:
    rates = KeyRates(0, Clock())
    for _ in range(1_000):
        rates.take("shop", 1_000)


def load_of(clock: Clock, answer_s: float, longest_s: float = 1.0) -> Load:
    """A load that knows, from a thousand answers, how long one takes."""
    load = Load(longest_s, clock)
    for _ in range(1_000):
        with load.taken():
            clock.now += answer_s
    return load


def test_a_request_that_comes_waits_for_those_in_work() -> None:
    load = load_of(Clock(), 0.3)
    assert load.wait_s == 0
    with load.taken(), load.taken(2):
        assert load.wait_s == pytest.approx(0.6)


def test_one_that_would_wait_too_long_is_refused_and_told_when_to_come_again() -> None:
    load = load_of(Clock(), 0.6)
    with load.taken(), load.taken(), pytest.raises(OverloadedError) as refusal, load.taken():
        pytest.fail("it was taken")
    assert refusal.value.headers == {"Retry-After": "2"}
    with load.taken():  # nobody is there any more
        pass


def test_requests_beside_each_other_share_the_time() -> None:
    clock = Clock()
    load = Load(10.0, clock)
    for _ in range(100):
        sixteen = [load.taken() for _ in range(16)]
        for request in sixteen:
            request.__enter__()
        for request in sixteen:
            clock.now += 0.01
            request.__exit__(None, None, None)
    with load.taken():
        assert load.wait_s == pytest.approx(0.01)


def test_a_request_of_many_lists_makes_nobody_wait_for_all_of_them() -> None:
    clock = Clock()
    load = Load(10.0, clock)
    for _ in range(50):
        with load.taken(64):
            clock.now += 0.64
    with load.taken(64), load.taken(64):
        assert load.wait_s == pytest.approx(0.02)


def test_a_pause_is_no_load() -> None:
    clock = Clock()
    load = load_of(clock, 0.001)
    with load.taken():
        clock.now += 60
    with load.taken(20):
        assert load.wait_s < 0.5


def test_a_request_that_fails_is_no_longer_in_work() -> None:
    load = load_of(Clock(), 0.6)
    with pytest.raises(KeyError), load.taken():
        raise KeyError
    assert load.wait_s == 0


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
