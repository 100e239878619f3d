import numpy as np

from services.training.run.samples import samples
from slipstream.evaluation.figures import cohorts
from tests.unit.training.shops import moment, ordered

QUERIES = [moment("c", "a"), *(moment("b", *"ac" * 10) for _ in range(20))]
COHORTS = cohorts(
    np.array([len(query.state.sequence) for query in QUERIES]), np.array([9] * 20 + [0])
)


def test_samples_show_both_lists_for_some_visitors_of_each_cohort() -> None:
    drawn = samples(
        QUERIES,
        COHORTS,
        ordered("a", "b", "c"),
        ordered("c", "b", "a"),
        {"a": {"title": "Apron"}},
        seed=0,
    )
    assert sorted(one.cohorts for one in drawn) == [
        ["new"],
        ["returning"],
        ["returning"],
        ["returning", "cold"],
    ]
    newcomer = drawn[0]
    assert [(item.item_id, item.title) for item in newcomer.history] == [("a", "Apron")]
    assert newcomer.next_item.item_id == "c"
    assert [item.item_id for item in newcomer.challenger] == ["b", "c"]
    assert newcomer.champion is not None and [item.item_id for item in newcomer.champion] == [
        "c",
        "b",
    ]
    assert {item.source for item in newcomer.challenger} == {"popularity"}
    assert all(len(one.history) <= 10 for one in drawn)


def test_samples_are_the_same_for_the_same_seed_and_need_no_champion() -> None:
    first, second = (
        samples(QUERIES, COHORTS, ordered("a", "b", "c"), None, {}, seed=3) for _ in range(2)
    )
    assert first == second
    assert {one.champion is None for one in first} == {True}
