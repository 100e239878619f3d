"""The credit of an experiment's visitors, from credited responses. Pure functions.

Visitors are counted by assignment: failed and empty slates count, too. A design that assigns
otherwise begins sums of its own, at the revision that brought it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from slipstream.contracts.experiments import Experiment


class DesignStart(NamedTuple):
    """A revision that changed the assignment of visitors, and its time."""

    since: int
    revision: int


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
            starts.append(DesignStart(each.changed_at, each.revision))
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

    `value` is in thousandths of the currency.
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

    def key(self) -> VisitorKey:
        """The sums that it counts for."""
        return VisitorKey(self.experiment, self.revision, self.user_id, self.variant)


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
