"""Boosts, groups, caps and pins in plain Python, one item at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from slipstream.filters.evaluation import Values, holds, values_of
from slipstream.filters.expressions import parsed
from tests.unit.slates.arranging.shops import Attributes, Shop

Rule = Mapping[str, Any]


def meets(rule: Rule, item_id: str, item: Attributes) -> bool:
    """Whether an item meets a rule's filter."""
    if not rule["filter"]:
        return True

    def values(name: str) -> Values:
        return {item_id} if name == "item_id" else values_of(item, name)

    return holds(parsed(rule["filter"]), values, lambda _name, _own: set())


def slate(shop: Shop, n: int, rules: Sequence[Rule], group_by: str) -> list[int]:
    """The places of a slate's items in the shop."""
    about = [
        [meets(rule, f"i{place}", item) for place, (item, _, _) in enumerate(shop)]
        for rule in rules
    ]

    def strength(place: int) -> float:
        score = shop[place][1]
        for rule, is_met in zip(rules, about, strict=True):
            if rule["action"] in ("boost", "bury") and is_met[place]:
                score *= rule["factor"]
        return score

    ranking = sorted(range(len(shop)), key=lambda place: (shop[place][2], -strength(place), place))

    def groups(places: Sequence[int]) -> Values:
        return set[str | float]().union(*(values_of(shop[place][0], group_by) for place in places))

    pinned: dict[int, int] = {}
    for rule, is_met in zip(rules, about, strict=True):
        if rule["action"] != "pin":
            continue
        wanted = min(rule["position"], n)
        free = [p for p in range(wanted, n + 1) if p not in pinned]
        free += [p for p in range(wanted, 0, -1) if p not in pinned]
        taken = list(pinned.values())
        able = [
            place
            for place in ranking
            if is_met[place]
            and place not in taken
            and not groups([place]) & groups(taken)
        ]  # fmt: skip
        if free and able:
            pinned[free[0]] = able[0]

    def fits(place: int, chosen: Sequence[int]) -> bool:
        if place in chosen or groups([place]) & groups(chosen):
            return False
        for rule, is_met in zip(rules, about, strict=True):
            if rule["action"] == "cap" and is_met[place]:
                for value in values_of(shop[place][0], rule["attribute"]):
                    sharing = [
                        other
                        for other in chosen
                        if is_met[other] and value in values_of(shop[other][0], rule["attribute"])
                    ]
                    if len(sharing) >= rule["most"]:
                        return False
        return True

    order: list[int] = []
    for position in range(1, n + 1):
        if position in pinned:
            order.append(pinned[position])
            continue
        chosen = list({*order, *pinned.values()})
        order += [place for place in ranking if fits(place, chosen)][:1]
    return order
