from dataclasses import dataclass, field

import numpy as np
import pytest

from slipstream.models.base import EventWeights
from slipstream.models.rules import RulesParameters, fit_rules
from slipstream.recommender.encoding import encode, met_items, queries
from slipstream.recommender.tuning import (
    FEWEST_QUERIES,
    RetrieverParameters,
    coordinate_search,
    mean_gain,
    ranks,
    tune,
    with_value,
)
from tests.unit.recommender.chain import chain_interactions


@dataclass(frozen=True)
class _Inner:
    y: int = 0


@dataclass(frozen=True)
class _Outer:
    x: int = 0
    inner: _Inner = field(default_factory=_Inner)


def test_coordinate_search_climbs_each_parameter_in_turn() -> None:
    result = coordinate_search(
        _Outer(),
        [("x", (1, 2, 3)), ("inner.y", (5, 4))],
        lambda point: -abs(point.x - 2) - abs(point.inner.y - 4),
    )
    assert result == _Outer(2, _Inner(4))


def test_with_value_reaches_into_a_nested_dataclass() -> None:
    assert with_value(_Outer(), "inner.y", 9) == _Outer(0, _Inner(9))


def test_tune_keeps_the_defaults_with_too_few_queries() -> None:
    table = chain_interactions(visitors=10)
    log = encode(table, met_items(table, EventWeights()), EventWeights())
    few = queries(log, np.arange(1, FEWEST_QUERIES - 1))
    assert tune(log, few, RetrieverParameters(), repeats=True) == RetrieverParameters()


@pytest.mark.parametrize("repeats", [True, False])
def test_ranks_in_a_batch_are_those_of_single_scoring(repeats: bool) -> None:
    table = chain_interactions(visitors=20)
    log = encode(table, met_items(table, EventWeights()), EventWeights())
    asked = queries(log, np.arange(2, len(log), 5))
    asked = [query for query in asked if len(query.history.item)]
    retriever = fit_rules(log, RulesParameters())
    gains = []
    for query in asked:
        scores = retriever.score_at(
            retriever.score(query.history), np.arange(log.n_items, dtype=np.int32)
        )
        own = scores[query.label]
        rivals = [
            score
            for item, score in enumerate(scores)
            if item != query.label and (repeats or item not in query.history.item)
        ]
        rank = sum(score > own for score in rivals) + sum(score == own for score in rivals) / 2
        gains.append(1 / np.log2(rank + 2))
    assert mean_gain(retriever, asked, repeats=repeats) == pytest.approx(np.mean(gains), rel=1e-6)


def test_ranks_share_the_place_of_equal_scores() -> None:
    table = chain_interactions(visitors=1, length=2)
    log = encode(table, met_items(table, EventWeights()), EventWeights())
    [query] = queries(log, np.array([1]))
    scores = np.zeros((1, 5), np.float32)
    assert ranks(scores, [query._replace(label=4)], repeats=True).tolist() == [2.0]
