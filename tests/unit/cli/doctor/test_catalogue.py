from typing import Any

from slipstream.filters.expressions import parsed
from slipstream_cli.doctor.catalogue import RuleFilter, check_rules, rule_filters


def shop(**attributes: Any) -> list[dict[str, Any]]:
    return [
        {"title": f"no {n}", "categories": ["tea", f"kind {n % 3}"], "price": n, **attributes}
        for n in range(30)
    ]


def test_rules_that_match_no_item() -> None:
    items = {f"i{number}": item for number, item in enumerate(shop())}
    texts = ['categories == "Tea"', 'categories == "tea"', 'item_id == "i3"', "price > 1000"]
    rules = [RuleFilter("home", f"r{n}", text, parsed(text)) for n, text in enumerate(texts)]
    (found,) = check_rules(rules, items, whole=True)
    assert found.figure.startswith("2 of 4 placement rules match none of 30 items: r0 of home")
    assert "r3 of home" in found.figure
    assert list(check_rules(rules, {}, whole=True)) == []
    assert list(check_rules(rules[1:3], items, whole=True)) == []


def test_filters_of_rules_are_those_that_are_on_and_alike_for_all_visitors() -> None:
    rules = [
        {"name": "on", "filter": 'category == "tea"'},
        {"name": "off", "filter": 'category == "tea"', "enabled": False},
        {"name": "for-all", "filter": ""},
        {"name": "own", "filter": "brand in seen"},
        {"name": "of-a-newer-version", "filter": "category ~ tea"},
    ]
    found = rule_filters([{"name": "home", "policy": {"rules": rules}}])
    assert [(it.placement, it.rule, it.text) for it in found] == [
        ("home", "on", 'category == "tea"')
    ]
    many = {"name": "many", "policy": {"rules": rules[:1] * 150}}
    assert len(rule_filters([many])) == 100
