import pytest
from prometheus_client import CollectorRegistry

from services.serving.metrics import ServingMetrics
from services.serving.request.store_reads import FAILURES, PAUSE_S, CircuitBreaker, StoreReads
from slipstream.features.visitor import VisitorState
from slipstream.stores.online import StoreUnavailableError
from tests.unit.serving.fakes import FakeOnline, visitor


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
