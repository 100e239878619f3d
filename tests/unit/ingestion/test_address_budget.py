"""An address that sends much without a server's key has to wait, and nobody else."""

import pytest

from services.ingestion.address_budget import MOST_ADDRESSES, AddressBudget

KIB = 1024


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_address_waits_until_its_debt_is_below_the_burst(clock: Clock) -> None:
    budget = AddressBudget(100, 1_000, clock)
    budget.charge("198.51.100.7", 999 * KIB)
    assert not budget.exhausted("198.51.100.7")  # credit is left: the next one is let in
    budget.charge("198.51.100.7", 499 * KIB)
    assert budget.exhausted("198.51.100.7") and not budget.exhausted("198.51.100.8")
    refusal = budget.refusal("198.51.100.7")
    assert (refusal.status, refusal.headers["Retry-After"]) == (429, "5")
    clock.now += 4.9
    assert budget.exhausted("198.51.100.7")
    clock.now += 0.2
    assert not budget.exhausted("198.51.100.7")


def test_each_request_costs_a_kib_however_small(clock: Clock) -> None:
    budget = AddressBudget(1, 10, clock)
    for _ in range(10):
        assert not budget.exhausted("a")
        budget.charge("a", 1)
    budget.charge("a", 1)
    assert budget.exhausted("a")


def test_a_household_has_one_budget(clock: Clock) -> None:
    budget = AddressBudget(1, 1, clock)
    budget.charge("2001:db8:1:2:aaaa::1", 5 * KIB)
    assert budget.exhausted("2001:db8:1:2:bbbb::9") and not budget.exhausted("2001:db8:1:3::1")
    budget.charge("::ffff:198.51.100.7", 5 * KIB)
    assert budget.exhausted("198.51.100.7")


def test_without_a_rate_nothing_is_refused(clock: Clock) -> None:
    budget = AddressBudget(0, 1, clock)
    budget.charge("a", 10**9)
    assert not budget.exhausted("a")


def test_the_number_of_addresses_is_bounded(clock: Clock) -> None:
    budget = AddressBudget(1, 1, clock)
    for number in range(MOST_ADDRESSES + 1):
        budget.charge(f"old-{number}", 0)
    clock.now += 10
    for number in range(2 * MOST_ADDRESSES):
        budget.charge(f"new-{number}", 9 * KIB)
    assert not budget.exhausted("old-1") and not budget.exhausted("new-1")
    assert budget.exhausted(f"new-{2 * MOST_ADDRESSES - 1}")
