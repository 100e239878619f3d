"""Judging recommenders with known answers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.training.run.dataset import Moment
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
from slipstream.contracts.times import DAY_MS
from slipstream.evaluation.figures import Past
from slipstream.evaluation.metrics import UNRANKED
from slipstream.features.visitor import SequenceEvent, VisitorState
from slipstream.models.base import NEVER
from slipstream.models.repurchases import Repurchases
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.fit import FitOptions, fit
from slipstream.recommender.predict import Answers, predict
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


def test_ask_loads_kernels_before_it_takes_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def noted(bundle: Bundle, queries: Sequence[Moment], *rest: Any, **named: Any) -> Answers:
        asked.append(len(queries))
        return predict(bundle, queries, *rest, **named)

    monkeypatch.setattr("services.training.run.judge.predict", noted)
    answers = ask(ordered("a", "b"), [moment("a", "b")] * 3, {"a": 0, "b": 1}, {})
    assert asked == [1, 3]
    assert len(answers.milliseconds) == 3


def test_judge_leaves_out_what_is_not_bought_again_yet_as_serving_does() -> None:
    learned = Repurchases(np.array([NEVER, DAY_MS, DAY_MS]))
    bundle = replace(ordered("a", "b", "c"), repeats=True, repurchases=learned)
    kinds = {"a": "purchase", "b": "purchase", "c": "view"}
    state = VisitorState([SequenceEvent(one, kind, 0) for one, kind in kinds.items()])
    queries = [Moment(state, "c", DAY_MS - 1, "ada"), Moment(state, "c", DAY_MS, "ada")]
    places = {"a": 0, "b": 1, "c": 2}
    older = replace(bundle, repurchases=None)
    for contestant in (bundle, popularity_of(bundle), older):
        shown = ask(contestant, queries, places, {}, hiding=bundle).shown
        assert shown[:, :3].tolist() == [[2, -1, -1], [1, 2, -1]]
    contestants = {CHALLENGER: bundle, POPULARITY: popularity_of(bundle), CHAMPION: older}
    judgement = judge(contestants, queries, PAST, IDS, {}, seed=0)
    assert judgement.compare(CHAMPION).difference == (0, 0, 0)
    assert ask(older, queries, places, {}).shown[:, :3].tolist() == [[0, 1, 2]] * 2


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
    queries = [
        moment("b", "a"),
        moment("d", "a", "b", "c", user_id="w"),
        moment("d", "a", "b", "a", user_id="w"),
    ]
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

    assert (measured.visitors, measured.items, measured.hit_rate) == (2, 4, 1.0)
    assert (measured.coverage, measured.champion_coverage) == (3 / 4, 3 / 4)

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
    assert measured.champion_coverage is None
