"""Sample of visitors as evidence for people, with the champion's and the challenger's lists.

They are drawn by seed, some of each cohort, and not chosen. Their ids are not kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.training.run.dataset import Moment
from services.training.run.job import Sample, SampleItem
from slipstream.evaluation.figures import ALL, K
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Event, recommend

OF_EACH_COHORT = 2
LAST_EVENTS = 10


def samples(
    queries: Sequence[Moment],
    cohorts: Mapping[str, NDArray[np.bool_]],
    challenger: Bundle,
    champion: Bundle | None,
    attributes: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> list[Sample]:
    """Two queries at most of each cohort but `all`, each once, with both lists of ten.

    A champion that could not be compared, since it was fitted on the test, may have met the next
    item.

    Args:
        queries: Moments of the test.
        cohorts: Masks over the queries.
        challenger: The challenger.
        champion: The champion; None without one.
        attributes: Attributes by item id.
        seed: Seed of the drawing.
    """
    random = np.random.default_rng(seed)
    drawn: list[int] = []
    for cohort, mask in cohorts.items():
        if cohort != ALL:
            open_to = np.setdiff1d(np.flatnonzero(mask), drawn)
            drawn += random.choice(
                open_to, min(OF_EACH_COHORT, len(open_to)), replace=False
            ).tolist()

    def item(item_id: str, source: str = "") -> SampleItem:
        known = attributes.get(item_id, {})
        return SampleItem(
            item_id=item_id, title=str(known.get("title") or known.get("name") or ""), source=source
        )

    def shown(bundle: Bundle, moment: Moment) -> list[SampleItem]:
        history = [Event(*event) for event in moment.state.sequence]
        return [item(each.item_id, each.source) for each in recommend(bundle, history, K)]

    return [
        Sample(
            cohorts=[cohort for cohort, mask in cohorts.items() if cohort != ALL and mask[place]],
            history=[item(event.item_id) for event in queries[place].state.sequence[-LAST_EVENTS:]],
            next_item=item(queries[place].item_id or ""),
            champion=shown(champion, queries[place]) if champion else None,
            challenger=shown(challenger, queries[place]),
        )
        for place in sorted(drawn)
    ]
