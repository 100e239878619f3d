"""Assignments: shares, stickiness and independence."""

from collections import Counter
from typing import Any

import numpy as np

from slipstream.contracts.experiments import Experiment
from slipstream.slates.participation import assigned, position

VARIANTS = [{"name": "a", "weight": 2}, {"name": "b"}, {"name": "c"}]


def experiment(name: str = "calmer", **design: Any) -> Experiment:
    values = {"placements": ["home"], "variants": VARIANTS} | design
    return Experiment.model_validate(
        {"name": name, "revision": 1, "design": values, "changed_at": 1}
    )


def test_a_million_visitors_are_shared_out_within_a_tenth_of_a_point() -> None:
    calmer = experiment(traffic=0.8)
    n = 1_000_000
    counts = Counter(assigned(calmer, f"visitor-{number}") for number in range(n))
    for name, share in {"holdout": 0.2, "a": 0.4, "b": 0.2, "c": 0.2}.items():
        assert abs(counts[name] / n - share) < 0.001, (name, counts[name])


def test_assignments_are_the_same_for_ever() -> None:
    assert position("calmer", "ada") == 0.8484931862317254
    calmer = experiment(traffic=0.8)
    assert [assigned(calmer, f"visitor-{number}") for number in range(12)] == (
        ["holdout", "c", "a", "c", "holdout", "a", "a", "c", "holdout", "b", "a", "a"]
    )


def test_more_traffic_brings_visitors_in_and_moves_nobody() -> None:
    few, more, all_ = (experiment(traffic=traffic) for traffic in (0.1, 0.5, 1.0))
    for user_id in map(str, range(2_000)):
        names = [assigned(each, user_id) for each in (few, more, all_)]
        joined = [name for name in names if name != "holdout"]
        assert set(joined) == {names[-1]} and names[3 - len(joined) :] == joined
    assert assigned(experiment(traffic=0), "ada") == "holdout"


def test_two_salts_assign_independently() -> None:
    one, other = experiment(salt="spring"), experiment(salt="summer")
    table = np.zeros((3, 3))
    for number in range(20_000):
        user_id = f"visitor-{number}"
        table[ord(assigned(one, user_id)) - 97, ord(assigned(other, user_id)) - 97] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert chi_square < 18.47  # 0.999 of 4 degrees of freedom


def test_an_experiment_without_a_salt_takes_its_name() -> None:
    by_name, by_salt = experiment("calmer"), experiment("other", salt="calmer")
    for user_id in map(str, range(100)):
        assert assigned(by_name, user_id) == assigned(by_salt, user_id)
