"""Baskets: what counts as one, and which companions an item gets."""

import numpy as np
import pytest

from slipstream.contracts.times import HOUR_MS
from slipstream.models.base import InteractionLog
from slipstream.models.baskets import MOST_ITEMS, PAUSE_MS, SHRINKAGE, fit_baskets

MINUTE = HOUR_MS // 60


def a_log(*events: tuple[int, int, int, bool], n_items: int = 60) -> InteractionLog:
    """A log of (user, item, minute, whether it is a cart or purchase)."""
    user, item, minute, basket = zip(*events, strict=True)
    return InteractionLog(
        np.array(user, np.int32),
        np.array(item, np.int32),
        np.array(minute, np.int64) * MINUTE,
        np.ones(len(user), np.float32),
        n_items,
        basket=np.array(basket, np.bool_),
    )


def companions(log: InteractionLog, item: int) -> dict[int, float]:
    found = fit_baskets(log)
    assert found is not None
    span = slice(int(found.indptr[item]), int(found.indptr[item + 1]))
    return dict(zip(found.indices[span].tolist(), found.data[span].tolist(), strict=True))


def test_items_of_one_sitting_are_companions_and_what_was_only_viewed_is_not() -> None:
    log = a_log((0, 1, 0, True), (0, 2, 1, False), (0, 3, 2, True), (1, 2, 0, True))
    assert companions(log, 1) == {3: pytest.approx(1 / (1 + SHRINKAGE))}
    assert companions(log, 2) == {}


def test_a_pause_or_another_visitor_begins_another_basket() -> None:
    late = PAUSE_MS // MINUTE + 1
    log = a_log((0, 1, 0, True), (0, 2, 1, True), (0, 3, 1 + late, True), (1, 4, 0, True))
    assert companions(log, 2).keys() == {1}
    assert companions(log, 3) == companions(log, 4) == {}


def test_pairs_of_many_baskets_come_before_pairs_of_one_and_before_what_everyone_buys() -> None:
    often = [(user, item, 0, True) for user in range(20) for item in (1, 2)]
    once = [(20, item, 0, True) for item in (3, 4)]
    bag = [(user, 5, 0, True) for user in range(100)]
    log = a_log(*sorted([*often, *once, *bag, (4, 1, 1, True)]))
    of_one = companions(log, 1)
    assert max(of_one, key=lambda item: of_one[item]) == 2
    assert of_one[2] > companions(log, 3)[4]


def test_an_item_counts_once_in_a_basket_and_bulk_orders_do_not_count() -> None:
    twice = a_log((0, 1, 0, True), (0, 1, 1, True), (0, 2, 2, True))
    assert companions(twice, 1) == {2: pytest.approx(1 / (1 + SHRINKAGE))}
    bulk = a_log(*((0, item, 0, True) for item in range(MOST_ITEMS + 1)))
    assert fit_baskets(bulk) is None


def test_there_are_no_baskets_without_carts_or_types_of_events() -> None:
    viewed = a_log((0, 1, 0, False), (0, 2, 0, False))
    assert fit_baskets(viewed) is None
    assert fit_baskets(a_log((0, 1, 0, True), (1, 2, 0, True))) is None
