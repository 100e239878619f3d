"""Columns of a view's features."""

import json

import orjson
import pytest

from services.features.reads.feast import NEVER, FeatureTable

STATUSES = ["PRESENT", "PRESENT", "NOT_FOUND"]


@pytest.mark.parametrize(
    ("dtype", "given", "values", "statuses"),
    [
        ("Array(String)", [[], ["a"]], [None, ["a"], None], ["NULL_VALUE", *STATUSES[1:]]),
        ("Array(Int64)", [[0], [1]], [[0], [1], None], STATUSES),
        ("Int64", [0.0, 2.0], [0, 2, None], STATUSES),
        ("Float64", [0.0, None], [0.0, None, None], ["PRESENT", "NULL_VALUE", "NOT_FOUND"]),
        ("String", ["", "b"], ["", "b", None], STATUSES),
    ],
)
def test_empty_lists_and_nulls_have_no_value(
    dtype: str, given: list[object], values: list[object], statuses: list[str]
) -> None:
    features = [{"it": value} for value in given]
    table = FeatureTable([*features, None], list(STATUSES), [NEVER] * 3, None)
    assert json.loads(orjson.dumps(table.column("it", dtype))) == {
        "values": values,
        "statuses": statuses,
        "event_timestamps": [NEVER] * 3,
    }
