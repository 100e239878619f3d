"""Repurchases: which categories are bought again, after how long, and what rests meanwhile."""

from dataclasses import replace

import numpy as np
import pytest

from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import RATE
from slipstream.models.base import NEVER, EventWeights, InteractionLog
from slipstream.models.repurchases import (
    Repurchases,
    fit_repurchases,
    looks_rest,
    of_resting,
)
from slipstream.recommender import encoding
from slipstream.recommender.refit import repurchases_of
from tests.unit.recommender.three_shops import SHOPS, simulated

MILK, PAN, NEW = range(3)
CATEGORIES = ["food", "kitchen", "kitchen"]
# An item, the day, whether it was bought.
Event = tuple[int, float, bool]


def a_log(*visitors: tuple[Event, ...], days: float = 40) -> InteractionLog:
    """A log of such visitors, twenty each, and of one who looks at an item on the last day."""
    rows = [
        (number, *event)
        for number, events in enumerate(each for each in visitors for _ in range(20))
        for event in events
    ]
    rows.append((20 * len(visitors), NEW, days, False))
    user, item, day, bought = (np.array(column) for column in zip(*rows, strict=True))
    time = (day * DAY_MS).astype(np.int64)
    masks = {"bought": bought, "looked": ~bought}
    return InteractionLog(user, item, time, np.ones(len(user), np.float32), 3, **masks)


def learned(log: InteractionLog) -> Repurchases:
    found = fit_repurchases(log, CATEGORIES)
    assert found is not None
    return found


def test_what_is_bought_again_rests_for_a_while_and_other_things_for_good() -> None:
    weekly = tuple((MILK, 7.0 * week, True) for week in range(4))
    found = learned(a_log((*weekly, (PAN, 30.0, True)), ((PAN, 1.0, True), (NEW, 2.0, True))))
    assert found.pause.tolist() == [7 * DAY_MS, NEVER, NEVER]
    assert found.otherwise == 7 * DAY_MS  # a third of all was bought again
    assert found.learned["categories"]["food"] == {
        "bought": 20, "share_again": pytest.approx(0.8667, abs=1e-4), "pause_days": 7.0,
    }  # fmt: skip
    ages = np.array([6, 8, 900]) * DAY_MS
    assert found.resting(np.array([MILK, MILK, PAN]), ages).tolist() == [True, False, True]
    assert (found.pause_of(None), found.pause_of(PAN)) == (7 * DAY_MS, NEVER)
    assert Repurchases.restore(found.arrays(), found.parameters()).learned == found.learned


def test_lines_of_one_order_and_late_purchases_are_not_bought_again() -> None:
    lines = ((MILK, 0.0, True), (MILK, 0.5 * HOUR_MS / DAY_MS, True))
    assert learned(a_log(lines)).pause[MILK] == NEVER
    # Who buys in the second half of the time had too little of it to buy again.
    again, late = ((MILK, 0.0, True), (MILK, 5.0, True)), ((MILK, 39.0, True),)
    assert learned(a_log(again, *(late,) * 10)).learned["share_again"] == 1.0


def test_without_purchases_or_types_of_events_nothing_is_known_to_be_bought_again() -> None:
    viewed = a_log(((MILK, 0.0, False), (PAN, 1.0, False)))
    assert learned(viewed).pause.tolist() == [NEVER] * 3
    assert fit_repurchases(replace(viewed, bought=None), CATEGORIES) is None


@pytest.mark.parametrize(("twice", "rests"), [(0, True), (1, True), (3, False)])
def test_an_item_just_looked_at_rests_where_few_look_at_it_again_at_once(
    twice: int, rests: bool
) -> None:
    minute = 60_000 / DAY_MS
    once = tuple((item, minute * at, False) for at, item in enumerate((MILK, PAN) * 26))
    again = tuple((MILK, minute * at, False) for at in range(53, 54 + twice))
    assert learned(a_log((*once, *again))).looks_rest == rests


def test_events_on_the_item_of_the_visits_last_event_are_of_a_resting_one() -> None:
    minute = 60_000 / DAY_MS
    visit = ((MILK, 0.0, False), (MILK, minute, True), (PAN, 2 * minute, False))
    log = a_log((*visit, (PAN, 1.0, False), (PAN, 1.0 + minute, True)))
    again = [False, True, False, False, True]
    assert of_resting(log).tolist() == [*again * 20, False]
    assert not of_resting(replace(log, looked=None)).any()
    often = a_log((*visit, (PAN, 3 * minute, False)))
    assert not looks_rest(often) and not of_resting(often).any()


def test_three_shops_differ() -> None:
    found = {}
    for name, shop in SHOPS.items():
        events, items = simulated(shop, visitors=200)
        item_ids = encoding.met_items(events, EventWeights())
        log = encoding.encode(events, item_ids, EventWeights())
        table = repurchases_of(log, item_ids, encoding.attributes(items, item_ids))
        assert table is not None
        found[name] = table
        kinds = {
            item.split()[0] for item, p in zip(item_ids, table.pause, strict=True) if p < NEVER
        }
        assert kinds == ({"food"} if name == "groceries" else set())
    assert [each.looks_rest for each in found.values()] == [False, True, False]
    days = {
        int(name.split()[1]) % 3: each["pause_days"]
        for name, each in found["groceries"].learned["categories"].items()
        if name.startswith("food")
    }
    # A fiftieth comes back sooner than after 7, 14 and 28 days, give or take.
    assert 3 < days[0] < 7 < days[1] < 14 < days[2] < 28


def test_who_rates_an_item_has_had_it_where_nothing_is_sold() -> None:
    events, _ = simulated(SHOPS["films"], visitors=5)
    kinds = ["rate" if kind == "purchase" else kind for kind in events["event_type"].to_pylist()]
    place = events.schema.get_field_index("event_type")
    rated = events.set_column(place, "event_type", [kinds])
    ids = encoding.met_items(events, EventWeights())
    sold, log = (encoding.encode(table, ids, EventWeights()) for table in (events, rated))
    assert log.bought is not None and sold.bought is not None
    assert log.bought_by == RATE and log.bought.tolist() == sold.bought.tolist()
    assert not (log.bought & log.looked).any()
