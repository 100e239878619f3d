import pytest
from prometheus_client import CollectorRegistry

from services.serving.metrics import ServingMetrics
from services.serving.store_reads import FAILURES, PAUSE_S, CircuitBreaker, StoreReads
from slipstream.features.visitor import VisitorState
from slipstream.stores.online import StoreUnavailableError
from tests.unit.serving.fakes import FakeOnline, visitor


def test_circuit_opens_after_failures_in_a_row_and_lets_one_probe_through_a_pause() -> None:
    now, changes = [0.0], list[bool]()
    breaker = CircuitBreaker(changes.append, lambda: now[0])
    for _ in range(FAILURES - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed()
    assert not breaker.open
    breaker.failed()
    assert (breaker.open, breaker.takes_probe()) == (True, False)
    now[0] = PAUSE_S
    assert [breaker.takes_probe(), breaker.takes_probe()] == [True, False]
    breaker.failed()
    assert not breaker.takes_probe()
    now[0] *= 2
    assert breaker.takes_probe()
    breaker.succeeded()
    assert (breaker.open, breaker.takes_probe(), changes) == (False, False, [True, False])


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
