"""The sums of an experiment's visitors, and the slates that count for each. Pure functions.

Visitors are counted by assignment: failed and empty slates count, too. A design that assigns
otherwise begins sums of its own, at the revision that brought it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from services.monitoring.attribution import ShownSlate
from slipstream.contracts.experiments import Experiment

# Time after a change of a design in which a process may still answer by the earlier one.
SETTLING_MS: Final = 5_000
# The greatest latency of a slate that is counted, in tenths of a millisecond.
_MOST_LATENCY: Final = 10_000_000


class DesignStart(NamedTuple):
    """A revision that changed the assignment of visitors: its time, and the control's name."""

    since: int
    revision: int
    control: str


def design_starts(revisions: Iterable[Experiment]) -> list[DesignStart]:
    """The revisions, oldest first, that slates are counted by.

    A change of the end, the state, the metrics or the guard goes on with the same sums.
    """
    starts: list[DesignStart] = []
    last: Experiment | None = None
    for each in sorted(revisions, key=lambda it: it.revision):
        if each.deleted:
            last = None
            continue
        if last is None or not each.design.assigns_as(last.design):
            starts.append(DesignStart(each.changed_at, each.revision, each.design.variants[0].name))
        last = each
    return starts


def start_at(starts: Sequence[DesignStart], timestamp: int) -> DesignStart | None:
    """The revision that a slate of this time counts for; None while a change settles.

    Clocks differ: a slate from before all revisions counts for the first one.
    """
    past = [start for start in starts if start.since <= timestamp]
    if len(past) > 1 and timestamp < past[-1].since + SETTLING_MS:
        return None
    return past[-1] if past else next(iter(starts), None)


class VisitorKey(NamedTuple):
    """The key of a visitor's sums."""

    experiment: str
    revision: int
    user_id: str
    variant: str


def key_of(slate: ShownSlate, starts: Mapping[str, Sequence[DesignStart]]) -> VisitorKey | None:
    """The sums that a slate counts for; None outside an experiment."""
    start = start_at(starts.get(slate.experiment, ()), slate.timestamp)
    if start is None:
        return None
    return VisitorKey(slate.experiment, start.revision, slate.user_id, slate.variant)


class PaidResponse(NamedTuple):
    """A response as sums need it."""

    item_id: str
    converted: bool
    purchased: bool
    value: float | None
    currency: str


class Credit(NamedTuple):
    """The credit of a slate. Items count once, and revenue is in thousandths of the currency."""

    clicked_items: int = 0
    clicked_slates: int = 0
    converted_slates: int = 0
    purchases: int = 0
    revenue: int = 0

    def since(self, before: "Credit") -> dict[str, int]:
        """The difference to an earlier credit, by column."""
        return {
            name: now - then
            for name, now, then in zip(self._fields, self, before, strict=True)
            if now != then
        }


def credit(responses: Sequence[PaidResponse]) -> Credit:
    """The credit of one slate, from the responses that are attributed to it."""
    clicked = {each.item_id for each in responses if not each.converted}
    return Credit(
        len(clicked),
        bool(clicked),
        any(each.converted for each in responses),
        len({each.item_id for each in responses if each.purchased}),
        sum(round(1_000 * each.value) for each in responses if each.value is not None),
    )


def currencies(responses: Iterable[PaidResponse]) -> Counter[str]:
    """Purchases with a value by currency."""
    return Counter(each.currency for each in responses if each.value is not None)


def slate_sums(slate: ShownSlate) -> dict[str, int]:
    """The sums that a slate adds to its visitor before any response, by column."""
    latency = max(0, min(round(10 * slate.latency_ms), _MOST_LATENCY))
    return {
        "slates": 1,
        "empty": int(not slate.items),
        "failed": int(bool(slate.substituted)),
        "timed": int(latency > 0),
        "latency": latency,
    }


class ClickedSlate(NamedTuple):
    """A clicked interleaved slate: the variant of each item, and the clicked items."""

    timestamp: int
    recommendation_id: str
    teams: Mapping[str, str]
    clicked: frozenset[str]


class Vote(NamedTuple):
    """A visitor's vote: for the variant (1), for the control (-1), or none yet (0)."""

    vote: int = 0
    voted_by: str = ""


def vote(slates: Iterable[ClickedSlate], control: str) -> Vote:
    """The vote of a visitor: that of the first slate of which one variant has more clicked items.

    A visitor who comes back does not vote again: a vote that turns would be another one.
    """
    for slate in sorted(slates):
        teams = [slate.teams[item_id] for item_id in slate.clicked if item_id in slate.teams]
        balance = sum(-1 if team == control else 1 for team in teams)
        if balance:
            return Vote(1 if balance > 0 else -1, slate.recommendation_id)
    return Vote()
