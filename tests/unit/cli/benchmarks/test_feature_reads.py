"""Requests of the benchmark of feature reads."""

from services.features.reads.feast import Planner, rows_of
from slipstream.features.views import declare
from slipstream_cli.benchmarks import feature_reads


def test_requested_features_are_declared() -> None:
    planner = Planner(declare())
    whole, halves = feature_reads._bodies()
    for body in (whole[0], *halves[:2]):
        plan = planner.of(tuple(body["features"]), full_names=True)
        rows = rows_of(body["entities"], plan)
        assert len(plan.columns) == len(body["features"])
        assert {len(ids) for ids in rows.values()} <= {1, feature_reads.ITEMS_ASKED}
    assert whole[0]["features"] == halves[0]["features"] + halves[1]["features"]
