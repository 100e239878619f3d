"""The credit and the votes of an experiment's visitors, from credited responses. Pure functions.

Visitors are counted by assignment: failed and empty slates count, too. A design that assigns
otherwise begins sums of its own, at the revision that brought it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from slipstream.contracts.experiments import HOLDOUT, INTERLEAVED, Experiment


class DesignStart(NamedTuple):
    """A revision that changed the assignment of visitors: its time, and the control's name.

    `interleaves` says whether both variants make each list.
    """

    since: int
    revision: int
    control: str
    interleaves: bool


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
        design = each.design
        if last is None or not design.assigns_as(last.design):
            control, interleaves = design.variants[0].name, design.kind == "interleave"
            starts.append(DesignStart(each.changed_at, each.revision, control, interleaves))
        last = each
    return starts


class VisitorKey(NamedTuple):
    """The key of a visitor's sums."""

    experiment: str
    revision: int
    user_id: str
    variant: str


class Response(NamedTuple):
    """A response with the slate of an experiment that it is credited to.

    `variant` is that of the slate, or, of an interleaved one, of the item. `value` is in
    thousandths of the currency.
    """

    recommendation_id: str
    kind: str
    user_id: str
    item_id: str
    experiment: str
    revision: int
    variant: str
    value: int | None
    currency: str

    def key(self, start: DesignStart) -> VisitorKey:
        """The sums that it counts for."""
        both = start.interleaves and self.variant != HOLDOUT
        variant = INTERLEAVED if both else self.variant
        return VisitorKey(self.experiment, self.revision, self.user_id, variant)


class Credit(NamedTuple):
    """The credit of a slate. Items count once, and revenue is in thousandths of the currency."""

    clicked_items: int = 0
    clicked_slates: int = 0
    converted_slates: int = 0
    purchases: int = 0
    revenue: int = 0


def credit(responses: Sequence[Response]) -> Credit:
    """The credit of one slate, from all responses that are credited to it."""
    clicked = {each.item_id for each in responses if each.kind == "click"}
    bought = [each for each in responses if each.kind == "purchase"]
    return Credit(
        len(clicked),
        bool(clicked),
        any(each.kind in ("cart", "purchase") for each in responses),
        len({each.item_id for each in bought}),
        sum(each.value or 0 for each in bought),
    )


def currencies(responses: Iterable[Response]) -> Counter[str]:
    """Purchases with a value by currency."""
    return Counter(
        each.currency for each in responses if each.kind == "purchase" and each.value is not None
    )


class Vote(NamedTuple):
    """A visitor's vote: for the variant (1), for the control (-1), or none yet (0)."""

    vote: int = 0
    voted_by: str = ""


def vote(clicks: Iterable[Response], control: str) -> Vote:
    """The vote of a visitor: that of the first slate of which one variant has more clicked items.

    A visitor who comes back does not vote again: a vote that turns would be another one. Ids of
    slates go by their times.
    """
    by_slate = attrgetter("recommendation_id")
    for slate_id, group in groupby(sorted(clicks, key=by_slate), by_slate):
        teams = [each.variant for each in group if each.variant not in (INTERLEAVED, HOLDOUT)]
        balance = sum(-1 if team == control else 1 for team in teams)
        if balance:
            return Vote(1 if balance > 0 else -1, slate_id)
    return Vote()
