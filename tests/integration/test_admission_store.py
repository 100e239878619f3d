"""The admission store on a real Redis: verdicts, rates, and a Redis that is slow or away."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.times import HOUR_MS
from slipstream.stores.admission_store import (
    DONE,
    FIRST,
    LIMITED,
    MARKS_A_CALL,
    PENDING,
    UNCHECKED,
    AdmissionQuery,
    AdmissionStore,
    Rate,
    Rates,
)
from slipstream_cli.local.processes import Child
from tests.conftest import OwnRedis


@pytest.fixture(autouse=True)
def patient_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that takes a busy machine for no hanging Redis."""
    monkeypatch.setattr("slipstream.stores.admission_store.LIMIT_S", 30.0)


@contextmanager
def hanging(server: Child, store: AdmissionStore) -> Iterator[None]:
    """A Redis that is stopped for the block, in which the store waits for a second at most."""
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    store._limit_s, patience_s = 1.0, store._limit_s
    try:
        yield
    finally:
        store._limit_s = patience_s
        server.process.send_signal(signal.SIGCONT)


async def code(store: AdmissionStore, query: AdmissionQuery) -> int:
    """The code of the query's only message."""
    (verdict,) = await store.judge([query])
    return verdict.codes[0]


async def test_what_was_taken_into_a_log_that_is_gone_may_be_sent_again(
    redis_settings: RedisSettings, namespace: str
) -> None:
    """A killed embedded broker loses its messages, the acknowledged ones, too."""
    log_id = "first"
    store = AdmissionStore(
        redis_settings,
        namespace,
        window_ms=HOUR_MS,
        log_id=lambda: log_id,
    )
    query = AdmissionQuery("shop", [store.message_key("shop", "", "m-0")], [None])
    assert await code(store, query) == FIRST
    store.acknowledged([key for key in query.ids if key])
    assert await code(store, query) == DONE
    log_id = "second"
    assert await code(store, query) == PENDING
    store.acknowledged([key for key in query.ids if key])
    assert await code(store, query) == DONE
    await store.aclose()


async def test_all_marks_are_sent_before_a_store_is_closed(
    redis_settings: RedisSettings, namespace: str
) -> None:
    store, other = (AdmissionStore(redis_settings, namespace, window_ms=HOUR_MS) for _ in range(2))
    keys = [store.message_key("shop", "", str(number)) for number in range(MARKS_A_CALL + 1)]
    store.acknowledged(keys)
    await store.aclose()
    assert await code(other, AdmissionQuery("shop", [keys[-1]], [None])) == DONE
    await other.aclose()


async def test_marks_reach_a_redis_that_comes_back_though_nobody_asks(
    own_redis: OwnRedis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.stores.admission_store.PAUSE_S", 0.1)
    redis, server = own_redis()
    store, other = (AdmissionStore(redis, namespace, window_ms=HOUR_MS) for _ in range(2))
    key = store.message_key("shop", "", "m-0")
    server.kill()
    store.acknowledged([key])
    deadline = time.monotonic() + 60
    while not store._away:
        assert time.monotonic() < deadline, "it never tried"
        await asyncio.sleep(0.01)
    server.start()
    while await code(other, AdmissionQuery("shop", [key], [None])) != DONE:
        assert time.monotonic() < deadline, "it did not try again"
        await asyncio.sleep(0.05)
    await store.aclose()
    await other.aclose()


async def test_nobody_waits_in_line_for_a_redis_that_hangs(
    own_redis: OwnRedis, namespace: str
) -> None:
    redis, server = own_redis()
    store = AdmissionStore(redis, namespace, window_ms=HOUR_MS)
    queries = [
        AdmissionQuery("shop", [store.message_key("shop", "", f"m-{number}")], [None])
        for number in range(20)
    ]
    await store.judge(queries[:1])
    with hanging(server, store):
        begun = time.monotonic()
        verdicts = await asyncio.gather(*(store.judge([query]) for query in queries))
        assert time.monotonic() - begun < 10, "in a line they would take 20 s"
        assert [verdict.codes[0] for (verdict,) in verdicts] == [PENDING] * 20
    await store.aclose()


async def test_a_redis_that_was_slow_has_forgotten_nothing(
    own_redis: OwnRedis, namespace: str
) -> None:
    """Otherwise one late answer would send every event of the next minutes to the lake."""
    redis, server = own_redis()
    store = AdmissionStore(redis, namespace, window_ms=HOUR_MS)
    before, meanwhile, later, last = (
        AdmissionQuery("shop", [store.message_key("shop", "", name)], [None]) for name in "abcd"
    )
    assert await code(store, before) == FIRST
    with hanging(server, store):
        assert await code(store, meanwhile) == PENDING
        store.acknowledged([key for key in meanwhile.ids if key])
    deadline = time.monotonic() + 60
    while await code(store, meanwhile) != DONE:  # the marks travel with the next call
        assert time.monotonic() < deadline, "messages accepted meanwhile were forgotten"
        await asyncio.sleep(0.1)
    assert [await code(store, one) for one in (before, later)] == [PENDING, FIRST]
    server.kill()
    server.start()
    assert await code(store, last) == PENDING, "a restarted Redis may have forgotten this id"
    await store.aclose()


async def test_store_gives_a_code_for_each_message(
    redis_settings: RedisSettings, namespace: str
) -> None:
    store = AdmissionStore(redis_settings, namespace, window_ms=HOUR_MS)
    rates = Rates(Rate(0.01, 6), Rate(0.01, 1))

    def query(source: str, ids: list[str | None], visitors: list[str | None]) -> AdmissionQuery:
        return AdmissionQuery(source, ids, visitors, None, rates)

    a, b = (store.message_key("s", "", name) for name in "ab")
    first, other = await store.judge(
        [query("s", [a, None, b], ["v", "v", None]), query("t", [a], [None])]
    )
    assert list(first.codes) == [FIRST, LIMITED, FIRST] and list(other.codes) == [PENDING]
    store.acknowledged([a])
    (again,) = await store.judge([query("s", [a, b, None], ["v", None, None])])
    assert list(again.codes) == [DONE, PENDING, UNCHECKED]
    (refused,) = await store.judge([query("s", [b], [None])])
    assert refused.wait_ms > 0 and list(refused.codes) == [UNCHECKED]
    await store.aclose()


@pytest.mark.parametrize("records", [1, 50])
async def test_a_request_of_more_records_than_the_burst_is_taken_when_nothing_is_owed(
    redis_settings: RedisSettings, namespace: str, records: int
) -> None:
    store = AdmissionStore(redis_settings, namespace, window_ms=0)
    query = AdmissionQuery("s", [None], [None], [records], Rates(Rate(0.01, 10)))
    waits = [(await store.judge([query]))[0].wait_ms > 0 for _ in range(12)]
    assert waits == ([False] * 10 + [True] * 2 if records == 1 else [False] + [True] * 11)
    await store.aclose()


async def test_a_visitor_is_charged_by_records(
    redis_settings: RedisSettings, namespace: str
) -> None:
    store = AdmissionStore(redis_settings, namespace, window_ms=0)
    query = AdmissionQuery(
        "s", [None] * 4, ["v", "v", "w", "v"], [6, 5, 5, 4], Rates(visitor=Rate(0.01, 10))
    )
    (verdict,) = await store.judge([query])
    assert list(verdict.codes) == [UNCHECKED, LIMITED, UNCHECKED, UNCHECKED]
    await store.aclose()
