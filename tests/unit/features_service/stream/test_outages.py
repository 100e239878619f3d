"""Reading waits until the store that is away answers, or the service stops."""

import threading

import pytest

from services.features.stream import outages
from services.features.stream.outages import StoreOutages
from slipstream.stores.lake import LakeUnavailableError
from slipstream.stores.online import StoreUnavailableError


class Stores:
    """A Redis and a lake that refuse as often as `refusals` says; and a watch that counts looks."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.looks = refusals, 0

    def update(self) -> None:
        self.looks += 1

    def ping(self) -> None:
        self._refuse(StoreUnavailableError("Redis is away"))

    def version(self, table: str) -> int:
        self._refuse(LakeUnavailableError(f"{table} is away"))
        return 1

    def _refuse(self, error: Exception) -> None:
        self.refusals -= 1
        if self.refusals >= 0:
            raise error


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "_ASK_EVERY_S", 0.001)


def test_redis_is_waited_for_and_stays_noted_until_a_write_succeeds() -> None:
    stores = Stores(refusals=3)
    waiting = StoreOutages(stores, stores, stores)
    assert waiting.wait_for_redis(StoreUnavailableError("full"), threading.Event())
    assert (waiting.redis, waiting.lake, stores.looks) == ("full", None, 4)


def test_the_lake_is_waited_for() -> None:
    stores = Stores(refusals=1)
    waiting = StoreOutages(stores, stores, stores)
    assert waiting.wait_for_lake(LakeUnavailableError("gone"), threading.Event())
    assert (waiting.redis, waiting.lake, stores.looks) == (None, "gone", 2)


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    stores = Stores(refusals=10**9)
    threading.Timer(0.05, stop.set).start()
    assert not StoreOutages(stores, stores, stores).wait_for_redis(
        StoreUnavailableError("away"), stop
    )
