"""Protocols of offline evaluation."""

import numpy as np
import pyarrow as pa
import pytest

from slipstream.models.base import EventWeights
from slipstream.recommender import protocols
from slipstream.recommender.encoding import Query, encode, met_items, queries
from tests.unit.recommender.chain import chain_interactions


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_of_many_queries_the_seed_draws_those_that_are_asked(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = chain_interactions(visitors=60)
    log = encode(table, met_items(table, EventWeights()), EventWeights())
    prefixes = queries(log, np.arange(7, len(log), 8))

    def task(seed: int) -> protocols.Task:
        return protocols.task_of(protocol, log, prefixes, "fast", None, seed)

    def known(asked: list[Query]) -> set[tuple[int, ...]]:
        return {(query.timestamp, query.label, len(query.history.item)) for query in asked}

    whole = task(0)
    monkeypatch.setattr(protocols, "MOST_QUERIES", 10)
    drawn, again, other = (known([*task(seed).queries]) for seed in (0, 0, 1))
    assert len(drawn) == 10 and drawn < known([*whole.queries])
    assert drawn == again != other
    assert len(task(0).log) == len(whole.log), "the events to fit on stay"
    if (rows := task(0).asked) is not None:
        assert log.item[rows].tolist() == [query.label for query in task(0).queries]


def table_of(rows: list[tuple[str, str, str, int]]) -> pa.Table:
    user, item, kind, hour = zip(*rows, strict=True)
    return pa.table(
        {
            "user_id": pa.array(user),
            "item_id": pa.array(item),
            "event_type": pa.array(kind),
            "timestamp": pa.array([3_600_000 * number for number in hour], pa.int64()),
        }
    )


def test_discovery_asks_for_items_that_the_visitor_has_not_met() -> None:
    table = table_of([("a", item, "view", hour) for hour, item in enumerate("vwvxvyxz")])
    log = encode(table, met_items(table, EventWeights()), EventWeights())
    task = protocols.task_of("discovery", log, [], "fast", None)
    assert task.repeats is False
    assert [query.label for query in task.queries] == [4]  # z; x was met before the split
    assert [len(query.history.item) for query in task.queries] == [7]


def test_a_first_event_led_on_where_its_item_was_bought_later() -> None:
    rows = [("a", "v", "view", 0), ("a", "w", "view", 1), ("a", "v", "view", 2)]
    table = table_of([*rows, ("a", "v", "cart", 3), ("b", "v", "view", 4)])
    log = encode(table, met_items(table, EventWeights()), EventWeights())
    assert protocols.first_meetings(log).tolist() == [True, True, False, False, True]
    assert protocols.led_on(log).tolist() == [True, False, False, False, False]
