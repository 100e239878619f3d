"""The attributes of a caller's items: those of the catalogue, under what the caller says."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from services.serving.catalog import Catalog
from services.serving.columns import MOST_COLUMNS, Columns
from services.serving.filters.masks import Items


class GivenItems:
    """Items as filters and rules see them, for one request.

    A feature that the caller gives counts instead of the catalogue's attribute of its name.

    Args:
        catalog: The catalogue.
        features: What the caller says of items, by id.
        item_ids: The items, each once.
        names: Attributes that are asked for; None for all.

    Attributes:
        columns: The attributes, by row.
    """

    def __init__(
        self,
        catalog: Catalog,
        features: Mapping[str, Mapping[str, Any]],
        item_ids: Sequence[str],
        names: Collection[str] | None,
    ) -> None:
        # Room for those of the catalogue and as many more.
        self.columns = Columns(2 * MOST_COLUMNS)
        self._rows = dict(zip(item_ids, range(len(item_ids)), strict=True))
        for item_id, row in self._rows.items():
            attributes = orjson.loads(catalog.attributes(item_id) or b"{}")
            attributes |= features.get(item_id, {})
            if names is not None:
                attributes = {name: attributes[name] for name in names if name in attributes}
            self.columns.put(row, {}, attributes)

    def listed(self, item_ids: Sequence[str]) -> Items:
        """These items, as filters see them. Raises `KeyError` for one that is not among them."""
        rows = np.array([self._rows[item_id] for item_id in item_ids], np.int32)
        places = dict(zip(item_ids, range(len(item_ids)), strict=True))
        return Items(self.columns, rows, places.get)
