"""The report on outcomes adds up, shows views as pages report them, and hides groups of few."""

from services.monitoring.counting.credit import DIMENSIONS, SUMS
from services.monitoring.counting.outcomes import report
from services.monitoring.counting.outcomes_repository import OutcomeRow

TEN = frozenset(range(10))


def row(
    visitors: frozenset[int] = TEN,
    currency: str = "",
    sums: dict[str, int] | None = None,
    **group: str | int,
) -> OutcomeRow:
    of: dict[str, object] = {
        "placement": "home",
        "model_version": "m1",
        "experiment": "",
        "variant": "",
    }
    of |= {"revision": 0, "position": 0, "source": "network", "cohort": "new"} | group
    given = dict.fromkeys(SUMS, 0) | (sums or {})
    return OutcomeRow(
        tuple(of[name] for name in DIMENSIONS), currency, tuple(given.values()), visitors
    )


def test_groups_add_up_and_a_group_of_nine_visitors_is_hidden() -> None:
    told = report(
        [
            row(frozenset(range(6)), sums={"answers": 10, "clicks": 2}),
            row(frozenset(range(4, 10)), sums={"answers": 30, "clicks": 3}, source="rules"),
            row(frozenset(range(9)), sums={"answers": 7}, placement="basket"),
        ],
        1,
        2,
        ["placement"],
        5,
        {"interactions": 3},
    )
    assert (told.total.answers, told.total.clicks, told.hidden_groups) == (47, 5, 1)
    (group,) = told.groups
    assert (group.by, group.views, group.views_by) == ({"placement": "home"}, 40, "answers")
    assert (group.click_through.value, group.click_through.of) == (5 / 40, 40)
    assert (told.from_, told.until, told.counted_until) == (1, 2, 5)
    assert told.left_out == {"interactions": 3}


def test_views_are_impressions_where_a_placement_has_any() -> None:
    told = report(
        [
            row(sums={"answers": 10, "impressions": 4, "clicks": 2}),
            row(sums={"answers": 30, "impressions": 0}, position=1),
            row(sums={"answers": 5}, placement="basket"),
        ],
        1,
        2,
        ["placement", "position"],
        None,
        {},
    )
    assert (told.total.views, told.total.views_by) == (9, "both")
    assert [(tuple(each.by.values()), each.views, each.views_by) for each in told.groups] == [
        (("basket", 0), 5, "answers"),
        (("home", 0), 4, "impressions"),
        (("home", 1), 0, "impressions"),
    ]


def test_money_is_told_by_currency_less_refunds() -> None:
    told = report(
        [
            row(currency="EUR", sums={"purchases": 2, "revenue": 20_500, "refunds": 500}),
            row(currency="USD", sums={"purchases": 1, "revenue": 1_000}),
        ],
        1,
        2,
        [],
        None,
        {},
    )
    assert [each.model_dump() for each in told.total.money] == [
        {"currency": "EUR", "revenue": 20.5, "refunds": 0.5, "net": 20.0},
        {"currency": "USD", "revenue": 1.0, "refunds": 0.0, "net": 1.0},
    ]
    assert told.total.purchases == 3
    assert told.groups == []


def test_scripted_visitors_and_purchases_without_credit_are_told_apart() -> None:
    told = report(
        [
            row(sums={"answers": 1}),
            row(sums={"answers": 100, "clicks": 1}, cohort="scripted"),
            row(currency="EUR", sums={"purchases": 3}, position=-1, cohort=""),
        ],
        1,
        2,
        ["cohort"],
        None,
        {},
    )
    assert (told.total.answers, told.scripted.answers, told.without_credit.purchases) == (1, 100, 3)
    assert [each.by for each in told.groups] == [{"cohort": "new"}]


def test_nothing_counted_is_told_as_such() -> None:
    told = report([], 1, 2, ["placement"], None, {})
    assert (told.total.views, told.total.click_through.value, told.groups) == (0, None, [])
