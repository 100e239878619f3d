"""Rates of keys, by a clock in the test's hands."""

import pytest

from services.serving.request.store_reads import KeyRates
from slipstream.chassis.errors import TooManyRequestsError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


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
