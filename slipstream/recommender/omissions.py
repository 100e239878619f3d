"""Parts of what a shop sends that an evaluation leaves out, to measure what they bring.

Items and the catalogue stay. What is left out is missing from the events that models are fitted on,
from the histories, and from the items' attributes, as if it had never been sent.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slipstream.evaluation.metrics import Ranks, Values
from slipstream.evaluation.significance import bootstrap_difference
from slipstream.features.request import GAP_MS
from slipstream.models.base import EventWeights, Indices, InteractionLog
from slipstream.recommender import encoding
from slipstream.recommender.protocols import Task

ATTRIBUTE = "attribute:"
ATTRIBUTES = "attributes"
LASTING_ID = "lasting-id"


@dataclass(frozen=True)
class Omission:
    """A part of the data that is left out.

    Attributes:
        event_types: Types of events.
        attributes: Attributes of items.
        lasting_id: The id by which a visitor is known again: each visit is a visitor of its own.
    """

    event_types: frozenset[str]
    attributes: frozenset[str]
    lasting_id: bool

    def described(self, attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The attributes of each item without those that are left out."""
        return {
            item_id: {name: value for name, value in entry.items() if name not in self.attributes}
            for item_id, entry in attributes.items()
        }


def parse_omission(
    text: str, event_types: Collection[str], attributes: Collection[str]
) -> Omission:
    """The part that a text names, such as `purchase`, `cart+purchase` or `attribute:brand`.

    Args:
        text: Names, separated by `+`: types of events, `attribute:` with an item's attribute,
            `attributes` for all of them, `lasting-id`.
        event_types: Types that the data has.
        attributes: Attributes that the data has.

    Raises:
        ValueError: The data has nothing of a name. The message lists the names.
    """
    known = [*sorted(event_types), *(f"{ATTRIBUTE}{name}" for name in sorted(attributes))]
    known += [ATTRIBUTES] * bool(attributes) + [LASTING_ID]
    names = {name.strip() for name in text.split("+")}
    if unknown := sorted(names.difference(known)):
        raise ValueError(f"there is no {unknown[0]!r} to leave out; there are {', '.join(known)}")
    chosen = {name.removeprefix(ATTRIBUTE) for name in names if name.startswith(ATTRIBUTE)}
    return Omission(
        frozenset(names & set(event_types)),
        frozenset(attributes) if ATTRIBUTES in names else frozenset(chosen),
        LASTING_ID in names,
    )


def withhold(
    task: Task,
    log: InteractionLog,
    interactions: pa.Table,
    item_ids: list[str],
    weights: EventWeights,
    omission: Omission,
) -> Task:
    """The task as it is without a part of the events; its queries ask for the same items.

    Args:
        task: The task of the whole data.
        log: The whole log.
        interactions: The table that the log encodes.
        item_ids: Item id of each item of the log.
        weights: Weights that the log was encoded with.
        omission: What is left out.

    Raises:
        ValueError: Nothing is left to fit on.
    """
    left_out = pa.array(sorted(omission.event_types), pa.string())
    sent = pc.invert(pc.is_in(interactions["event_type"], left_out))
    known = sent.to_numpy()[encoding.log_rows(interactions, item_ids, weights)]
    shown = log.impressions
    if omission.event_types:  # an item shown counts as taken by an event that was sent
        shown = encoding.encode(interactions.filter(sent), item_ids, weights).impressions
    users = visits(log) if omission.lasting_id else log.user
    kept = known[task.fitted]
    if not kept.any():
        raise ValueError("nothing is left to fit on")
    queries = task.queries
    if task.asked is not None:
        queries = encoding.queries(replace(log, user=users), task.asked, known)
    of_users = replace(task.log, user=users[task.fitted], impressions=shown)
    return replace(task, log=of_users, queries=queries).only(kept)


def compare(
    whole: Ranks,
    reduced: Ranks,
    masks: Mapping[str, NDArray[np.bool_]],
    measures: Mapping[str, Callable[[Ranks], Values]],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Means of the reduced data's answers by cohort, and their changes against the whole data's.

    Args:
        whole: Rank of each query's item by the model of the whole data.
        reduced: The same by the model of the reduced data.
        masks: Masks over the queries, by cohort.
        measures: Metrics by name.
        seed: Seed of the bootstrap.

    Returns:
        By cohort: `queries`, and for each metric `value` and `change` with its 95 % interval,
        paired on the queries.
    """
    compared: dict[str, dict[str, Any]] = {}
    for cohort, mask in masks.items():
        compared[cohort] = {"queries": int(mask.sum())}
        for name, measure in measures.items():
            after, before = measure(reduced[mask]), measure(whole[mask])
            change = bootstrap_difference(after, before, seed)._asdict()
            compared[cohort][name] = {"value": float(after.mean()), "change": change}
    return compared


def visits(log: InteractionLog) -> Indices:
    """The visit of each event, numbered from 0: half an hour without an event begins another."""
    begins = np.ones(len(log), np.bool_)
    begins[1:] = (np.diff(log.user) != 0) | (np.diff(log.timestamp) >= GAP_MS)
    return (np.cumsum(begins) - 1).astype(np.int32)
