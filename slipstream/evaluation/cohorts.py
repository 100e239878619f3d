"""Cohorts of queries, by the events known of their visitor and their item. Pure functions on
arrays.

A mean over all queries hides those that are hard to serve: newcomers, of whom little is known (the
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
# Of queries that are a visitor's first event on an item: it then went into the cart or was bought.
LED_ON: Final = "led_on"

# Most events of a new visitor.
NEW_EVENTS: Final = 2
# Most events of a cold item.
COLD_EVENTS: Final = 4


def cohorts(
    history_events: NDArray[np.int64], label_events: NDArray[np.int64]
) -> Mapping[str, NDArray[np.bool_]]:
    """Masks over the queries by cohort, `all` first; empty cohorts are left out.

    `new` and `returning` divide the visitors; `cold` items are asked for by both.

    Args:
        history_events: Known events of each query's visitor.
        label_events: Events of the item that came next, before any query.
    """
    found = {
        ALL: np.ones(len(history_events), np.bool_),
        NEW: history_events <= NEW_EVENTS,
        RETURNING: history_events > NEW_EVENTS,
        COLD: label_events <= COLD_EVENTS,
    }
    return {name: mask for name, mask in found.items() if mask.any()}
