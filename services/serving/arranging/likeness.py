"""Likeness of candidates, for a slate's diversity.

Diversity is maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): each place gets the
candidate with the greatest (1 - diversity) * relevance - diversity * likeness, where likeness is
that to the most similar item of the slate, pinned ones included. Relevance falls in equal steps
from 1 for the best candidate of a tier to nearly 0 for its last, so that the share means the same
for every model, whatever its scores are like.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.serving.arranging.attribute_values import Entries, categories, entries
from services.serving.columns import Columns
from services.serving.filters.masks import Rows

# Most attributes that are compared, those first that the catalogue had first, and most values of a
# list. They bound the time.
_MOST_ATTRIBUTES: Final = 32
_MOST_VALUES: Final = 16


def terms_of(columns: Columns, rows: Rows) -> Entries:
    """All categories of candidates. Those that few of them share make them alike the most."""
    names = list(dict.fromkeys([*list(columns.categories), *list(columns.lists)]))
    return entries(
        [categories(columns, name, rows, _MOST_VALUES) for name in names[:_MOST_ATTRIBUTES]]
    )


def directions(vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The vectors at length 1, zeros where they are; (0, 0) for no vectors."""
    if vectors is None:
        return np.empty((0, 0), np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1)[:, None], np.float32)
