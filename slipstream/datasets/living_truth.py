"""The course of a run of the living simulator, and the truth about its lists."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from slipstream.datasets.living_shop import (
    LivingShop,
    Reaction,
    examination,
    true_click_through,
)

Broken = Literal["feature", "catalogue"]
# Length of the steps of the truth's series, and of progress.
STEP_S: Final = 10.0


@dataclass(frozen=True)
class Plan:
    """The course of a run; times are seconds since its start, None for never.

    Attributes:
        rate: Calls to ingestion a second.
        seconds: Length; None for one that is stopped from outside.
        broken: What breaks: `feature`, clicks and carts come under names of the tracker's own, so
            that their counts stand still; `catalogue`, the importer sends the items without
            categories, brand and price.
        places: Length of a list.
        placement: Placement of the lists; "" for none.
        sends_items: Whether ingestion gets the shop's items first.
    """

    rate: float
    seconds: float | None = None
    shift_s: float | None = None
    broken: Broken | None = None
    break_s: float = 0.0
    places: int = 10
    placement: str = ""
    concurrency: int = 16
    sends_items: bool = True


@dataclass(slots=True)
class Sums:
    """Sums over lists: `expected_clicked` and `expected_clicks` are the true probabilities of a
    click in each list, and of each place; the others are what chance made of them.
    """

    lists: int = 0
    expected_clicked: float = 0.0
    clicked: int = 0
    expected_clicks: float = 0.0
    clicks: int = 0
    carts: int = 0
    purchases: int = 0
    revenue: float = 0.0

    def add(self, reaction: Reaction) -> None:
        led = [deed for deed in reaction.deeds if deed.position is not None]
        bought = [deed.price for deed in led if deed.bought]
        self.lists += 1
        self.expected_clicked += reaction.probability
        self.clicked += bool(led)
        self.expected_clicks += reaction.expected_clicks
        self.clicks += len(led)
        self.carts += sum(deed.carted for deed in led)
        self.purchases += len(bought)
        self.revenue += sum(bought)


@dataclass
class Truth:
    """The account of a run: what was sent, and the true and real outcomes of the lists.

    Times are ms. `groups` has sums by phase (`before` or `after` the shift), model version, step,
    experiment and variant; `series` those of each `STEP_S`, by its number.
    """

    shop: LivingShop
    plan: Plan
    started_at: int
    ended_at: int | None = None
    shifted_at: int | None = None
    broke_at: int | None = None
    visits: int = 0
    lists: int = 0
    logins: int = 0
    unsent: int = 0
    events: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    groups: dict[tuple[str, ...], Sums] = field(default_factory=lambda: defaultdict(Sums))
    series: dict[int, Sums] = field(default_factory=lambda: defaultdict(Sums))

    def add(
        self, slate: Mapping[str, Any], reaction: Reaction, *, shifted: bool, at_s: float
    ) -> None:
        """Count a list that a shopper has looked at, `at_s` seconds after the start."""
        self.lists += 1
        names = ("model_version", "answered_by", "experiment", "variant")
        key = ("after" if shifted else "before", *(slate.get(name) or "" for name in names))
        for sums in (self.groups[key], self.series[int(at_s // STEP_S)]):
            sums.add(reaction)

    def total(self) -> Sums:
        """The sums of all lists."""
        rows = [asdict(sums) for sums in self.groups.values()]
        return Sums(**{name: sum(row[name] for row in rows) for name in asdict(Sums())})

    def report(self) -> dict[str, Any]:
        """The account as JSON; tastes and items as they were drawn."""
        shop, places = self.shop, self.plan.places
        names = ("phase", "model_version", "answered_by", "experiment", "variant")
        return {
            "seed": shop.seed,
            "plan": asdict(self.plan),
            "habits": asdict(shop.habits),
            **{
                name: getattr(self, name)
                for name in (
                    *("started_at", "ended_at", "shifted_at", "broke_at"),
                    *("visits", "lists", "logins", "unsent"),
                )
            },
            "events": dict(self.events),
            "rejected": dict(self.rejected),
            "unanswered": dict(self.unanswered),
            "examination": examination(shop.habits, places).tolist(),
            "click_through": {
                phase: true_click_through(shop, places, shifted=shifted)
                for phase, shifted in (("before", False), ("after", True))
            },
            "groups": [
                dict(zip(names, key, strict=True)) | asdict(sums)
                for key, sums in self.groups.items()
            ],
            "series": [
                {"at_s": number * STEP_S} | asdict(sums)
                for number, sums in sorted(self.series.items())
            ],
            "items": [
                {
                    "item_id": item["item_id"],
                    "category": category,
                    "appeal": appeal,
                    "appeal_after": appeal_after,
                    "dearness": dearness,
                }
                for item, category, appeal, appeal_after, dearness in zip(
                    shop.items,
                    shop.catalogue.category.tolist(),
                    shop.appeal.tolist(),
                    shop.appeal_after.tolist(),
                    shop.catalogue.dearness.tolist(),
                    strict=True,
                )
            ],
            "shoppers": [
                {
                    "user_id": f"shopper-{shopper}",
                    "purse": purse,
                    "before": _favourites(shop, shopper, shifted=False),
                    "after": _favourites(shop, shopper, shifted=True),
                }
                for shopper, purse in enumerate(shop.purse.tolist())
            ],
        }


def _favourites(shop: LivingShop, shopper: int, *, shifted: bool) -> dict[str, float]:
    """The click probability of each favourite category, by its number."""
    tastes = shop.tastes(shifted=shifted)[shopper]
    return {
        str(category): float(tastes[category])
        for category in (tastes > shop.habits.indifference).nonzero()[0].tolist()
    }
