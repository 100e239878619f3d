"""The revisions that begin sums, and the credit of a slate."""

from typing import Any

from services.monitoring.counting.visitor_sums import (
    Credit,
    Response,
    credit,
    currencies,
    design_starts,
)
from slipstream.contracts.experiments import Experiment, ExperimentDesign
from tests.unit.monitoring.builders import T0

DESIGN: dict[str, Any] = {"placements": ["home"], "variants": [{"name": "a"}, {"name": "b"}]}


def revision(number: int, at: int, *, deleted: bool = False, **changes: Any) -> Experiment:
    return Experiment(
        name="calmer",
        revision=number,
        design=ExperimentDesign.model_validate(DESIGN | changes),
        deleted=deleted,
        changed_at=T0 + at,
    )


REVISIONS = [
    revision(1, 0),
    revision(2, 1_000, ends_at=5, metric="conversion", least_effect=0.1, guard={"window_s": 60}),
    revision(3, 100_000, traffic=0.5),
    revision(4, 200_000, traffic=0.5, state="stopped"),
    revision(5, 300_000, traffic=0.5, deleted=True),
    revision(6, 400_000, traffic=0.5, kind="shadow"),
]


def responded(
    kind: str, item: str, slate: str = "s1", value: int | None = None, **more: Any
) -> Response:
    return Response(slate, kind, "u", item, "calmer", 1, "a", value, "")._replace(**more)


def test_only_what_changes_the_assignment_begins_new_sums() -> None:
    starts = design_starts(reversed(REVISIONS))
    assert starts == [(T0, 1), (T0 + 100_000, 3), (T0 + 400_000, 6)]


def test_items_count_once_and_money_each_time() -> None:
    responses = [
        responded("click", "x"),
        responded("click", "x"),
        responded("cart", "y"),
        responded("purchase", "z", value=12_900, currency="EUR"),
        responded("purchase", "z", value=100),
        responded("purchase", "w"),
        responded("refund", "z", value=100),
    ]
    assert credit(responses) == Credit(1, 1, 1, 2, 13_000)
    assert credit([]) == Credit()
    assert currencies(responses) == {"EUR": 1, "": 1}
