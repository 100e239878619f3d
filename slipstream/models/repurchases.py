"""Repurchases: whether and when visitors buy an item again, or look at it again at once.

Shops sell some things again and again, and others once: milk and pans, films, sofas. Of each
category, the share of items that their buyers bought again says which it is, and the gaps between
two purchases say when. Categories of few purchases lean on the whole shop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.vocabulary import PURCHASE
from slipstream.features.request import GAP_MS
from slipstream.models.base import NEVER, Arrays, Indices, InteractionLog, Mask, Parameters

# An item rests for good where its buyers buy less than this share of items again (docs/adr/0084).
FEWEST_AGAIN: Final = 0.1
# Of the items that are bought again, the share that is so before the pause ends.
EARLY: Final = 0.02
# Purchases of the whole shop that a category's own are joined with, and the fewest gaps of a
# category that count instead of the whole shop's.
_PRIOR: Final = 5
_FEWEST_GAPS: Final = 20
# An item just looked at rests where fewer of the next looks are at it.
FEWEST_LOOKS: Final = 0.02
# Categories of most purchases that `learned` names.
_NAMED: Final = 50


@dataclass(frozen=True)
class Repurchases:
    """The pauses after which items may be shown to their buyers again.

    Attributes:
        pause: For each item of the catalogue the milliseconds for which it rests after a purchase,
            `NEVER` where it is not bought again.
        otherwise: The same for items outside the catalogue.
        looks_rest: Whether the item that a visitor has just looked at rests until the visit ends.
        bought_by: The type of event by which visitors have an item.
        learned: The figures behind it as JSON values, for people.
    """

    pause: NDArray[np.int64]
    otherwise: int = NEVER
    looks_rest: bool = False
    bought_by: str = PURCHASE
    learned: Mapping[str, Any] = field(default_factory=dict)

    def resting(self, items: NDArray[np.integer], ages: NDArray[np.int64]) -> Mask:
        """Whether each purchase lets its item, of the catalogue, rest after so many ms."""
        rests: Mask = ages < self.pause[items]
        return rests

    def pause_of(self, item: int | None) -> int:
        """The pause of an item in ms; None stands for one outside the catalogue."""
        return self.otherwise if item is None else int(self.pause[item])

    def arrays(self) -> Arrays:
        """The arrays to save; with `parameters` they suffice for `restore`."""
        return {"pause": self.pause}

    def parameters(self) -> Parameters:
        """The other attributes, as JSON values."""
        names = ("otherwise", "looks_rest", "bought_by", "learned")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def restore(cls, arrays: Arrays, parameters: Parameters) -> Self:
        """The pauses that were saved."""
        return cls(arrays["pause"], **parameters)


def fit_repurchases(log: InteractionLog, categories: Sequence[str]) -> Repurchases | None:
    """Learn the pauses from a log; None where it does not tell purchases and looks.

    An item's share counts those bought in the first half of the log's time: at least the other half
    was left to buy them again. An item's category is empty for none.
    """
    if log.bought is None or log.looked is None or not len(log):
        return None
    user, item, time = (column[log.bought] for column in (log.user, log.item, log.timestamp))
    order = np.lexsort((time, item, user))
    user, item, time = user[order], item[order], time[order]
    first = np.ones(len(item), np.bool_)
    first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    gap = np.diff(time, prepend=0)
    again = ~first & (gap > HOUR_MS)  # lines of one order are one purchase

    pair = np.flatnonzero(first)
    early = time[pair] <= (log.timestamp.min() + log.timestamp.max()) // 2
    pair_returns = np.add.reduceat(again, pair) > 0 if len(pair) else early
    names, code = np.unique(np.array(categories, str), return_inverse=True)
    bought = np.bincount(code[item[pair]][early], minlength=len(names))
    returned = np.bincount(code[item[pair]][early & pair_returns], minlength=len(names))
    whole = returned.sum() / max(bought.sum(), 1)
    shares = (returned + _PRIOR * whole) / (bought + _PRIOR)

    gaps, of_gap = gap[again], code[item[again]]
    own = [gaps[of_gap == each] for each in range(len(names))]
    pauses = [
        _pause(share, theirs if len(theirs) >= _FEWEST_GAPS else gaps)
        for share, theirs in zip(shares, own, strict=True)
    ]
    otherwise = _pause(whole, gaps)
    largest = np.argsort(-bought, kind="stable")[:_NAMED].tolist()
    learned = _figures(bought.sum(), whole, otherwise) | {
        "categories": {
            str(names[each]): _figures(bought[each], shares[each], pauses[each]) for each in largest
        }
    }
    pause = np.array(pauses, np.int64)[code]
    return Repurchases(pause, otherwise, looks_rest(log), log.bought_by, learned)


def _pause(share: float, gaps: NDArray[np.int64]) -> int:
    return int(np.quantile(gaps, EARLY)) if share >= FEWEST_AGAIN and len(gaps) else NEVER


def _figures(bought: int, share: float, pause: int) -> dict[str, Any]:
    days = None if pause == NEVER else round(pause / DAY_MS, 2)
    return {"bought": int(bought), "share_again": round(float(share), 4), "pause_days": days}


def looks_rest(log: InteractionLog) -> bool:
    """Whether too few looks are at the item that the same visit looked at just before."""
    if log.looked is None:
        return False
    visit, same = _stays(log.user[log.looked], log.item[log.looked], log.timestamp[log.looked])
    return bool(same.sum() < FEWEST_LOOKS * visit.sum())


def of_resting(log: InteractionLog) -> Mask:
    """Whether each event is on an item that rested, since the visit's last event was on it.

    Such are the view of a page that was clicked on, and the cart behind it.
    """
    of_item = np.zeros(len(log), np.bool_)
    if looks_rest(log):
        of_item[1:] = _stays(log.user, log.item, log.timestamp)[1]
    return of_item


def _stays(user: Indices, item: Indices, time: NDArray[np.int64]) -> tuple[Mask, Mask]:
    """Whether each event but the first goes on with a visit, and with its item."""
    visit = (user[1:] == user[:-1]) & (np.diff(time) < GAP_MS)
    return visit, visit & (item[1:] == item[:-1])
