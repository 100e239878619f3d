"""Who and what is asked about: queries by how well their visitor and their item are known. Pure
functions on arrays.

A mean over all queries hides those who are hard to serve: newcomers, of whom little is known (the
cold start of A. I. Schein et al., "Methods and Metrics for Cold-Start Recommendations", SIGIR
2002), and items that few have met.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

ALL: Final = "all"
NEW: Final = "new"
RETURNING: Final = "returning"
COLD: Final = "cold"

# A visitor with at most so many events is new.
NEW_EVENTS: Final = 2
# An item with at most so many events is cold.
COLD_EVENTS: Final = 4


def cohorts(
    history_events: NDArray[np.int64], label_events: NDArray[np.int64]
) -> Mapping[str, NDArray[np.bool_]]:
    """Masks over the queries, `all` first; without those that hold no query.

    `history_events` is how many events of the query's visitor are known, `label_events` how many of
    the item that came next were, before any query. `new` and `returning` visitors are all visitors;
    `cold` items are asked for by both.
    """
    found = {
        ALL: np.ones(len(history_events), np.bool_),
        NEW: history_events <= NEW_EVENTS,
        RETURNING: history_events > NEW_EVENTS,
        COLD: label_events <= COLD_EVENTS,
    }
    return {name: mask for name, mask in found.items() if mask.any()}
