"""Protocols of offline evaluation."""

import numpy as np
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
