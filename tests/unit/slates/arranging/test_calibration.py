"""Calibrated slates follow the visitor's history."""

from collections import Counter
from typing import Any

from slipstream.slates.arranging.pool import Visitor
from tests.unit.slates.arranging.shops import arranged, pool_of


def test_a_calibrated_slate_has_the_shares_of_the_history() -> None:
    shop = [({"brand": "a"}, 100.0 - n, 0) for n in range(20)]
    shop += [({"brand": "b"}, 50.0 - n, 0) for n in range(20)]
    shop += [({"brand": "c"}, 20.0 - n, 0) for n in range(5)]
    pool = pool_of(shop, others={"x": {"brand": "a"}, "y": {"brand": "b"}, "z": {}})
    visitor = Visitor(["x", "y", "z", "unknown"], [7.0, 3.0, 5.0, 5.0])

    def brands(calibration: float) -> Counter[str]:
        slate = arranged(
            pool, 10, visitor=visitor, calibration=calibration, calibrated_by="brand"
        ).order
        return Counter(shop[place][0]["brand"] for place in slate)

    assert brands(0.0) == {"a": 10}
    assert brands(1.0) == {"a": 7, "b": 3}
    assert arranged(pool, 10, calibration=1.0).order == list(range(10))  # no history


def test_older_events_count_less() -> None:
    pool = pool_of(
        [({"brand": "a"}, 2.0, 0), ({"brand": "b"}, 1.0, 0)],
        others={"x": {"brand": "a"}, "y": {"brand": "b"}},
    )
    ages = Visitor(["y"] * 30 + ["x"] * 30, [1.0] * 60)
    calibrated: dict[str, Any] = {"calibration": 1.0, "calibrated_by": "brand"}
    assert arranged(pool, 1, visitor=ages, **calibrated).order == [1]
    ages = Visitor(["x"] * 30 + ["y"] * 30, [1.0] * 60)
    assert arranged(pool, 1, visitor=ages, **calibrated).order == [0]
