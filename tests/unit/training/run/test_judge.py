"""Judging recommenders with known answers."""

import numpy as np
import pytest

from services.training.run.judge import (
    CHALLENGER,
    CHAMPION,
    POPULARITY,
    ask,
    flat,
    judge,
    latency_p95_ms,
    popularity_of,
)
from slipstream.contracts.progress import ProgressStep
from slipstream.evaluation.figures import Past
from slipstream.evaluation.metrics import UNRANKED
from slipstream.recommender.fit import FitOptions, fit
from tests.unit.recommender.chain import chain_interactions, chain_items
from tests.unit.training.shops import moment, ordered

PAST = Past(np.array([0, 1, 2, 0, 1, 0], np.int32), np.array([0, 0, 0, 1, 1, 2], np.int32), 4)

IDS = ["a", "b", "c", "d"]


def test_judge_asks_for_what_came_next_and_knows_its_place() -> None:
    steps: list[ProgressStep] = []
    queries = [moment("a", "b"), moment("d", "a", "b"), moment("b", "b"), moment("z", "a")]
    answers = ask(ordered("a", "b", "c", "d"), queries, {"a": 0, "b": 1, "d": 3}, {}, steps.append)
    # What the visitor had is not recommended again.
    assert answers.ranks.tolist() == [0, 1, UNRANKED, UNRANKED]
    assert answers.shown[:, :4].tolist() == [
        [0, -1, 3, -1],
        [-1, 3, -1, -1],
        [0, -1, 3, -1],
        [1, -1, 3, -1],
    ]
    assert [step.share for step in steps] == [0, 1]
    assert len(answers.milliseconds) == 4 and 0 < latency_p95_ms(answers) < 1_000


def test_a_champion_is_asked_with_what_it_has_in_service_for_new_items() -> None:
    champion = fit(chain_interactions(), chain_items(), FitOptions(repeats=False))
    attributes = {"new": {"colour": "mauve", "title": "mauve garment"}}  # as items 0 and 1
    queries = [moment("new", "item-38", "item-39"), moment("item-02", "new")]
    index = {item_id: place for place, item_id in enumerate([*champion.item_ids, "new"])}
    alone = ask(champion, queries, index, {})
    assert alone.ranks[0] == UNRANKED and index["new"] not in alone.shown
    asked = ask(champion, queries, index, attributes)
    assert asked.ranks[0] < 5 and asked.shown[0, asked.ranks[0]] == index["new"]
    assert asked.ranks[1] < 5 and asked.ranks[1] < alone.ranks[1]
    assert index["new"] not in asked.shown[1]  # it was the history


def test_judge_compares_on_the_same_queries_by_cohort() -> None:
    challenger, champion = ordered("a", "b", "c", "d"), ordered("d", "gone", "c", "b", "a")
    queries = [moment("b", "a"), moment("d", "a", "b", "c"), moment("d", "a", "b", "a")]
    contestants = {
        CHALLENGER: challenger,
        POPULARITY: popularity_of(challenger),
        CHAMPION: champion,
    }
    judgement = judge(contestants, queries, PAST, IDS, {}, seed=0)
    assert {name: mask.tolist() for name, mask in judgement.cohorts.items()} == {
        "all": [True] * 3,
        "new": [True, False, False],
        "returning": [False, True, True],
        "cold": [True] * 3,
    }
    measured = judgement.measurements(bundle_bytes=7)
    assert measured.bundle_bytes == 7
    assert (measured.popularity.queries, measured.popularity.difference) == (3, (0, 0, 0))
    assert {name: one.queries for name, one in measured.cohorts.items()} == {
        "new": 1,
        "returning": 2,
        "cold": 3,
    }
    assert measured.champion is not None and measured.champion_latency_p95_ms is not None
    second, fourth = 1 / np.log2(3), 1 / np.log2(5)
    assert measured.champion.challenger == pytest.approx((1 + 1 + second) / 3)
    assert measured.champion.other == pytest.approx((fourth + 1 + 1) / 3)

    metrics = flat(judgement.figures())
    assert metrics["ndcg@10"] == measured.champion.challenger
    assert metrics["champion/ndcg@10"] == measured.champion.other
    assert metrics["popularity/ndcg@10"] == metrics["ndcg@10"]
    assert metrics["cohort/returning/ndcg@10"] == pytest.approx((1 + second) / 2)
    assert metrics["cohort/new/queries"] == 1
    assert (
        metrics["champion/coverage@10"] == 3 / 4
    )  # of the catalogue of today: all had "a", and "gone" is no part of it
    assert not [
        name
        for name in metrics
        if name.startswith(("champion/cohort", "popularity/cohort", "challenger"))
    ]


def test_judge_without_a_champion_compares_with_popularity_alone() -> None:
    challenger = ordered("a", "b", "c", "d")
    contestants = {CHALLENGER: challenger, POPULARITY: challenger}
    judgement = judge(contestants, [moment("b", "a")], PAST, IDS, {}, seed=0)
    measured = judgement.measurements(1)
    assert measured.champion is None and measured.champion_latency_p95_ms is None
