"""The steps with ready lists, in order: each chooses those items that the slate may have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from typing import Final

from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.masks import Filter, Items, mask
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_plan import Candidate
from slipstream.slates.slate_request import Item, Step, VisitorReading

# Steps with lists from the online store, which keeps no former ones.
OF_STORE: Final = (Step.TRENDING, Step.POPULAR)

Entries = Sequence[tuple[str, float]]


class DemandEntries(list[tuple[str, float]]):
    """A list of demand, which many requests filter. It is not changed."""

    _known: tuple[int, Items] | None = None

    def known(self, catalog: Catalog) -> Items:
        """The items as filters see them, looked up again once the catalogue has further ones."""
        size, kept = len(catalog), self._known
        if kept is None or kept[0] != size or kept[1].columns is not catalog.columns:
            kept = self._known = size, catalog.listed([item_id for item_id, _ in self])
        return kept[1]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The items that a step may give. It gives `n` at most; a filter of None lets all."""

    n: int
    exclude: set[str]
    filter: Filter | None = None


def selected(catalog: Catalog, wanted: Wanted, entries: Entries, source: str) -> list[Candidate]:
    """The first entries that may be shown and are wanted. Entries are best first; answers name the
    source.
    """
    passing: Iterable[tuple[str, float]] = entries
    if wanted.filter is not None:
        listed = (
            entries.known(catalog)
            if isinstance(entries, DemandEntries)
            else catalog.listed([item_id for item_id, _ in entries])
        )
        passes = mask(wanted.filter.condition, listed, wanted.filter.own)
        passing = compress(entries, passes.tolist())
    allowed = (
        Item(item_id, score, source)
        for item_id, score in passing
        if item_id not in wanted.exclude and catalog.shown(item_id)
    )
    return list(islice(allowed, wanted.n))


def unproven(
    catalog: Catalog, model: Model | None, exclude: set[str], filter_: Filter | None, n: int
) -> list[Candidate]:
    """The `n` newest items that the model does not know, for places that explore."""
    known = model.bundle.index if model is not None else {}
    entries = [(item_id, 0.0) for item_id, _ in catalog.newest() if item_id not in known]
    return selected(catalog, Wanted(n, exclude, filter_), entries, Step.NEW)


def recent(visitor: VisitorReading) -> Entries:
    """The visitor's own latest items, each once; scores are the times of the visits (ms)."""
    latest: dict[str, float] = {}
    for event in reversed(visitor.history):
        latest.setdefault(event.item_id, float(event.timestamp))
    return list(latest.items())
