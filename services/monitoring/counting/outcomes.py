"""The report on outcomes: what recommendations led to, by placement, version, position and others.

Views are impressions where the placement's pages report them, else answered places. A group of
fewer than ten visitors is hidden; its counts stay in the total.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from services.monitoring.counting.credit import DIMENSIONS, FEWEST_VISITORS, SCRIPTED, SUMS
from services.monitoring.counting.outcomes_repository import OutcomeRow
from services.monitoring.quality import RateInterval, wilson

Dimension = Literal[
    "placement",
    "model_version",
    "experiment",
    "variant",
    "revision",
    "position",
    "source",
    "cohort",
]
_PLACEMENT, _COHORT, _POSITION = (
    DIMENSIONS.index(name) for name in ("placement", "cohort", "position")
)
_MONEY: Final = ("revenue", "refunds")


class Money(BaseModel):
    """Credited purchases with a value, in one currency; empty where events name none."""

    currency: str
    revenue: float
    refunds: float
    net: float


class Outcomes(BaseModel):
    """What places of slates led to. Each place counts once as viewed, clicked and put in a cart."""

    answers: int = Field(description="places of answered lists")
    impressions: int = Field(description="places that pages reported as shown")
    views: int = Field(description="impressions where the placement has any, else answers")
    views_by: Literal["impressions", "answers", "both"]
    clicks: int
    click_through: RateInterval = Field(
        description="clicks of views; places of a list are not "
        "independent, so compare experiments by visitor"
    )
    carts: int
    purchases: int
    money: list[Money]


class OutcomeGroup(Outcomes):
    """The outcomes of a group, with its values of the dimensions."""

    by: dict[str, str | int]


class OutcomesReport(BaseModel):
    """The report on `from <= t < until`, at the times of the events.

    The lake is counted up to `counted_until`. Scripted visitors and purchases without credit are in
    no group and not in the total.
    """

    from_: int = Field(serialization_alias="from")
    until: int
    counted_until: int | None = Field(description="end of the newest counted bucket")
    by: list[Dimension]
    total: Outcomes
    groups: list[OutcomeGroup]
    hidden_groups: int = Field(description="groups of fewer than ten visitors")
    without_credit: Outcomes = Field(description="purchases that no recommendation led to")
    scripted: Outcomes = Field(description="answers to visitors who act as no person does")
    left_out: dict[str, int] = Field(
        description="rows that came too late or with a future time, by table, ever"
    )


class _Sums:
    """Sums of a group, by placement, since each has impressions or not."""

    def __init__(self) -> None:
        self.by_placement: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(SUMS))
        self.money: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.visitors: set[int] = set()

    def add(self, row: OutcomeRow) -> None:
        sums = self.by_placement[row.group[_PLACEMENT]]
        for place, amount in enumerate(row.sums):
            sums[place] += amount
        money = row.sums[-len(_MONEY) :]
        if any(money):
            for place, amount in enumerate(money):
                self.money[row.currency][place] += amount
        if len(self.visitors) < FEWEST_VISITORS:
            self.visitors |= row.visitors

    def told(self, with_impressions: set[str]) -> dict[str, Any]:
        """The fields of `Outcomes`.

        `with_impressions` are the placements with pages that report impressions.
        """
        totals = dict(
            zip(SUMS, map(sum, zip(*self.by_placement.values(), strict=True)), strict=False)
        )
        totals = dict.fromkeys(SUMS, 0) | totals
        views, ways = 0, set[str]()
        for placement, sums in self.by_placement.items():
            of = dict(zip(SUMS, sums, strict=True))
            way = "impressions" if placement in with_impressions else "answers"
            views += of[way]
            if of["answers"] or of["impressions"]:
                ways.add(way)
        clicks = totals["clicks"]
        return {
            **{name: totals[name] for name in SUMS if name not in _MONEY},
            "views": views,
            "views_by": ways.pop() if len(ways) == 1 else "both" if ways else "answers",
            "click_through": wilson(min(clicks, views), views),
            "money": [
                Money(
                    currency=currency,
                    revenue=revenue / 1000,
                    refunds=refunds / 1000,
                    net=(revenue - refunds) / 1000,
                )
                for currency, (revenue, refunds) in sorted(self.money.items())
            ],
        }


def report(
    rows: Iterable[OutcomeRow],
    since: int,
    until: int,
    by: Sequence[Dimension],
    counted_until: int | None,
    left_out: dict[str, int],
) -> OutcomesReport:
    """The report.

    Args:
        since: Begin of the period, in ms.
        counted_until: Time up to which the lake is counted.
        left_out: Rows that were left out, by table of the lake.
    """
    places = [DIMENSIONS.index(name) for name in by]
    total, uncredited, scripted = _Sums(), _Sums(), _Sums()
    groups: defaultdict[tuple[str | int, ...], _Sums] = defaultdict(_Sums)
    for row in rows:
        if row.group[_COHORT] == SCRIPTED:
            scripted.add(row)
        elif row.group[_POSITION] < 0:
            uncredited.add(row)
        else:
            total.add(row)
            if by:
                groups[tuple(row.group[place] for place in places)].add(row)
    shown = {
        placement
        for placement, sums in total.by_placement.items()
        if sums[SUMS.index("impressions")]
    }
    large = {key: sums for key, sums in groups.items() if len(sums.visitors) >= FEWEST_VISITORS}
    return OutcomesReport(
        from_=since,
        until=until,
        counted_until=counted_until,
        by=list(by),
        total=Outcomes(**total.told(shown)),
        groups=[
            OutcomeGroup(by=dict(zip(by, key, strict=True)), **sums.told(shown))
            for key, sums in sorted(large.items())
        ],
        hidden_groups=len(groups) - len(large),
        without_credit=Outcomes(**uncredited.told(shown)),
        scripted=Outcomes(**scripted.told(shown)),
        left_out=left_out,
    )
