"""The items that may be in a list: shown by the catalogue, and passing a filter."""

from collections.abc import Iterable

import numpy as np

from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.filters.conditions import depends_on_visitor
from slipstream.filters.expressions import FilterError, parsed
from slipstream.models.base import Mask
from slipstream.recommender.bundle import Bundle
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.masks import mask


def listed(bundle: Bundle, entries: Iterable[StreamCatalogRecord], expression: str = "") -> Mask:
    """Whether each item of the bundle may be shown now. Items without an entry may.

    Args:
        bundle: The model.
        entries: The newest record of each item of the catalogue.
        expression: Condition that items must meet; empty for none.

    Raises:
        FilterError: The expression can't be read, or depends on the visitor.
    """
    catalog = Catalog()
    for entry in entries:
        catalog.apply(entry)
    shown = np.fromiter(map(catalog.shown, bundle.item_ids), np.bool_, len(bundle.item_ids))
    if expression:
        condition = parsed(expression)
        if depends_on_visitor(condition):
            raise FilterError("`seen` and `bought` can't be in a filter for all visitors", 0)
        shown &= mask(condition, catalog.listed(bundle.item_ids), {})
    return shown
