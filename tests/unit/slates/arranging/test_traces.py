"""Rules are accounted for, and pins without a candidate asked for."""

from typing import Any

from slipstream.filters.conditions import OneOf
from tests.unit.slates.arranging.shops import arranged, pool_of


def test_a_pin_without_a_candidate_is_asked_for() -> None:
    pool = pool_of([({"brand": "a"}, 1.0, 0)])
    rules = [{"name": "ad", "action": "pin", "position": 1, "filter": "sponsored == 1"}]
    arrangement = arranged(pool, 3, rules=rules)
    assert [(need.rule, need.condition) for need in arrangement.needs] == [
        ("ad", OneOf("sponsored", frozenset({1.0})))
    ]
    assert arrangement.traces[0].note == "no candidate meets the filter"
    assert arrangement.traces[0].matched == 0

    fetched = pool_of([({"brand": "a"}, 1.0, 0), ({"sponsored": True}, 0.0, 2)])
    arrangement = arranged(fetched, 3, rules=rules)
    assert arrangement.order == [1, 0]
    assert arrangement.touched == [["ad"], []]
    assert not arrangement.needs


def test_rules_are_accounted_for() -> None:
    shop = [({"brand": "a"}, 9.0 - n, 0) for n in range(4)]
    shop += [({"brand": "b"}, 2.0, 0), ({"brand": "c"}, 1.0, 0)]
    policy: dict[str, Any] = {
        "rules": [
            {"name": "in", "action": "include", "filter": 'brand != "x"'},
            {"name": "off", "action": "boost", "factor": 9, "enabled": False},
            {"name": "up", "action": "boost", "factor": 8, "filter": 'brand == "c"'},
            {"name": "down", "action": "bury", "factor": 0.01, "filter": 'item_id == "i1"'},
            {"name": "cap", "action": "cap", "attribute": "brand", "most": 1},
            {"name": "first", "action": "pin", "position": 9, "filter": 'brand == "b"'},
            {"name": "late", "action": "pin", "position": 9, "filter": 'brand == "b"'},
        ]
    }
    arrangement = arranged(pool_of(shop), 3, **policy)
    assert [f"i{place}" for place in arrangement.order] == ["i0", "i5", "i4"]
    assert arrangement.touched == [[], ["up"], ["first"]]
    told = [(each.rule, each.matched, each.items, each.note) for each in arrangement.traces]
    assert told == [
        ("in", None, [], ""),
        ("up", 1, ["i5"], ""),
        ("down", 1, ["i1"], ""),
        ("cap", 6, [], "no value has more items than that"),
        ("first", 1, ["i4"], "it stands at 3: the slate is shorter"),
        ("late", 1, [], "other pins have taken all that meet the filter"),
    ]
    told_of_two = arranged(pool_of(shop), 4, rules=[policy["rules"][4]]).traces[0]
    assert told_of_two.items == ["i1", "i2", "i3"]
