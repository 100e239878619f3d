"""Baskets: what counts as one, and which companions an item gets."""

import numpy as np
import pytest

from slipstream.contracts.times import HOUR_MS
from slipstream.models.base import InteractionLog
from slipstream.models.baskets import FEWEST_BASKETS, MOST_ITEMS, PAUSE_MS, fit_baskets

MINUTE = HOUR_MS // 60
Event = tuple[int, int, bool]


def a_log(*visits: tuple[Event, ...], times: int = FEWEST_BASKETS) -> InteractionLog:
    """A log of visitors, `times` each, with events of (item, minute, whether it is a cart)."""
    rows = [
        (number, *event)
        for number, events in enumerate(each for each in visits for _ in range(times))
        for event in events
    ]
    user, item, minute, basket = zip(*rows, strict=True)
    return InteractionLog(
        np.array(user, np.int32),
        np.array(item, np.int32),
        np.array(minute, np.int64) * MINUTE,
        np.ones(len(user), np.float32),
        60,
        basket=np.array(basket, np.bool_),
    )


def companions(log: InteractionLog, item: int) -> dict[int, float]:
    found = fit_baskets(log)
    assert found is not None
    span = slice(int(found.indptr[item]), int(found.indptr[item + 1]))
    return dict(zip(found.indices[span].tolist(), found.data[span].tolist(), strict=True))


def test_a_companion_counts_the_share_of_the_items_baskets_and_what_was_only_viewed_does_not() -> (
    None
):
    log = a_log(
        ((1, 0, True), (2, 1, False), (3, 2, True)),
        ((1, 0, True), (3, 1, True), (4, 2, True)),
        ((1, 0, True), (4, 1, True)),
    )
    assert companions(log, 1) == {3: pytest.approx(2 / 3), 4: pytest.approx(2 / 3)}
    assert companions(log, 3) == {1: pytest.approx(1.0), 4: pytest.approx(1 / 2)}
    assert companions(log, 2) == {}


def test_a_pause_or_another_visitor_begins_another_basket() -> None:
    late = PAUSE_MS // MINUTE + 1
    log = a_log(((1, 0, True), (2, 1, True), (3, 1 + late, True)), ((4, 0, True),))
    assert companions(log, 2).keys() == {1}
    assert companions(log, 3) == companions(log, 4) == {}


def test_pairs_of_few_baskets_and_bulk_orders_do_not_count() -> None:
    pair: tuple[Event, ...] = ((1, 0, True), (2, 0, True))
    assert fit_baskets(a_log(pair, times=FEWEST_BASKETS - 1)) is None
    assert fit_baskets(a_log(pair)) is not None
    assert fit_baskets(a_log(tuple((item, 0, True) for item in range(MOST_ITEMS + 1)))) is None


def test_an_item_counts_once_in_a_basket() -> None:
    log = a_log(((1, 0, True), (1, 1, True), (2, 2, True)))
    assert companions(log, 1) == {2: pytest.approx(1.0)}


def test_there_are_no_baskets_without_carts_or_types_of_events() -> None:
    assert fit_baskets(a_log(((1, 0, False), (2, 0, False)))) is None
    single = a_log(((1, 0, True), (2, 0, True)))
    unknown = InteractionLog(single.user, single.item, single.timestamp, single.weight, 60)
    assert fit_baskets(unknown) is None
