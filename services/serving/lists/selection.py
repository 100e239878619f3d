"""The choice of a list's items among entries that are in order."""

from collections.abc import Iterable, Sequence
from itertools import islice

from services.serving.answers import Item
from services.serving.catalog import Catalog
from services.serving.filters.masks import mask
from services.serving.steps import StepRequest


def selected(
    catalog: Catalog, request: StepRequest, entries: Sequence[tuple[str, float]], source: str
) -> list[Item]:
    """The first `request.n` entries that may be shown, are not excluded and pass the filter.

    Args:
        catalog: Availability and attributes of items.
        request: The request.
        entries: Item ids with scores, best first.
        source: The source of the items, as answers name it.
    """
    passing: Iterable[tuple[str, float]] = entries
    if request.wanted is not None:
        listed = catalog.listed([item_id for item_id, _ in entries])
        passes = mask(request.wanted.condition, listed, request.wanted.own)
        passing = (entry for entry, holds in zip(entries, passes, strict=True) if holds)
    allowed = (
        Item(item_id, score, source)
        for item_id, score in passing
        if item_id not in request.exclude and catalog.shown(item_id)
    )
    return list(islice(allowed, request.n))
