from typing import Any

from slipstream.filters.expressions import parsed
from slipstream_cli.doctor.catalogue_checks import RuleFilter, check_catalogue, check_rules
from slipstream_cli.doctor.catalogue_figures import MOST_ATTRIBUTES, CatalogueFigures
from slipstream_cli.doctor.event_figures import EventFigures
from slipstream_cli.doctor.findings import Finding, Weight


def figures_of(items: list[dict[str, Any]], seen: int = 1_000) -> CatalogueFigures:
    """Figures of these items, of which the first `seen` have events."""
    figures = CatalogueFigures()
    for number, item in enumerate(items):
        attributes = dict(item)
        available = attributes.pop("available", True)
        figures.count(f"i{number}", attributes, available, [f"i{n}" for n in range(seen)])
    return figures


def checked(figures: CatalogueFigures) -> dict[str, Finding]:
    events = EventFigures(total=9, sampled=9)
    return {found.check: found for found in check_catalogue(figures, events)}


def shop(**attributes: Any) -> list[dict[str, Any]]:
    return [
        {"title": f"no {n}", "categories": ["tea", f"kind {n % 3}"], "price": n, **attributes}
        for n in range(30)
    ]


def test_catalogue_of_a_healthy_shop_has_no_finding() -> None:
    # A title of its own, a price of its own and one currency are as they should be.
    assert checked(figures_of(shop(currency="EUR"))) == {}


def test_empty_catalogue() -> None:
    assert list(checked(figures_of([]))) == ["no_catalogue"]


def test_items_of_events_without_an_entry() -> None:
    figures = figures_of(shop())
    figures.event_items, figures.lacking, figures.lacking_events = 40, ["a", "b", "c"], 12
    found = checked(figures)["items_without_entry"]
    assert found.weight is Weight.WARNING
    assert found.figure == (
        "3 of 40 items of the events (8 %) are not in the catalogue, with 12 events: a, b, c"
    )
    figures.event_items = 400
    assert checked(figures)["items_without_entry"].weight is Weight.NOTE


def test_items_that_no_event_is_about() -> None:
    assert checked(figures_of(shop(), seen=20)) == {}
    assert checked(figures_of(shop(), seen=10))["items_never_seen"].weight is Weight.NOTE
    none = checked(figures_of(shop(), seen=0))["items_never_seen"]
    assert none.weight is Weight.WARNING and "don't fit together" in none.why


def test_items_that_are_not_available() -> None:
    assert "items_unavailable" in checked(figures_of(shop(available=False)))


def test_attributes_that_are_empty_or_alike_or_never_shared() -> None:
    items = [
        item | {"season": "", "colours": [], "country": "DE", "mpn": f"M{number}"}
        for number, item in enumerate(shop())
    ]
    found = checked(figures_of(items))
    assert {check: it.figure for check, it in found.items()} == {
        "empty_attributes": "2 attributes without a value: season, colours",
        "uniform_attributes": "1 attribute with one value for all items: country",
        "unshared_attributes": "1 attribute with another value for each item: mpn",
    }


def test_no_categories_and_no_brand() -> None:
    assert "no_categories" in checked(figures_of([{"title": f"no {n}"} for n in range(30)]))


def test_names_of_attributes_are_bounded() -> None:
    figures = figures_of([{f"attribute {n}": 1 for n in range(MOST_ATTRIBUTES + 50)}])
    assert len(figures.attributes) == MOST_ATTRIBUTES


def test_rules_that_match_no_item() -> None:
    items = {f"i{number}": item for number, item in enumerate(shop())}
    texts = ['categories == "Tea"', 'categories == "tea"', 'item_id == "i3"', "price > 1000"]
    rules = [RuleFilter("home", f"r{n}", text, parsed(text)) for n, text in enumerate(texts)]
    (found,) = check_rules(rules, items, whole=True)
    assert found.figure.startswith("2 of 4 rules of placements match none of 30 items: r0 of home")
    assert "r3 of home" in found.figure
    assert list(check_rules(rules, {}, whole=True)) == []
    assert list(check_rules(rules[1:3], items, whole=True)) == []
