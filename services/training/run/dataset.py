"""Data of a run: the lake at a recorded version, and visitors as they were at a moment in it."""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from slipstream.chassis.logging import get_logger
from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import (
    CatalogPlace,
    StreamInteraction,
    in_order_of_logs,
    source_name,
)
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.evaluation.data_checks import (
    CatalogueFigures,
    EventFigures,
    check_catalogue,
    check_events,
    refusals,
)
from slipstream.evaluation.findings import Finding
from slipstream.features import training_rows
from slipstream.features.identity import Identities, Link, links_of
from slipstream.features.visitor import VisitorState
from slipstream.models.base import EventWeights
from slipstream.recommender import encoding
from slipstream.recommender.scripted import ScriptedVisitors, find_scripted
from slipstream.stores.lake import Lake, LakeUnavailableError

log = get_logger(__name__)

Rows = NDArray[np.int64]

_COLUMNS = (
    "event_id",
    "user_id",
    "item_id",
    "event_type",
    "timestamp",
    "value",
    "recommendation_id",
    "position",
)
# Fields of an interaction that no model reads. They are given, since filling in defaults costs more
# than all the rest.
_UNREAD: dict[str, Any] = {
    "received_at": 0,
    "anonymous_id": None,
    "session_id": None,
    "source": "",
    "properties": {},
    "maybe_repeat": False,
    "imported": False,
    "weight": None,
    "unlearned": False,
}


class TooLittleDataError(Exception):
    """The history is too small to learn from; the message has the numbers and the limits."""


class RefusedDataError(TooLittleDataError):
    """A check of the data refuses the run; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Dataset:
    """History at a version of the lake.

    Attributes:
        interactions: The latest events, searches and impressions too, by time and event id. Events
            of a visitor who turned out to be a user are the user's
            (`slipstream.features.identity`). Those of scripted visitors are left out.
        item_ids: The items that models know: those that a signal names, without deleted ones.
        attributes: Attributes by item id.
        lake_version: Version of the interactions.
        catalog_version: Version of the catalogue; None without one.
        lake_rows: Rows of the lake's table, which triggers count from.
        scripted: Counts of the visitors that were left out.
        events: Figures of the interactions, for checks.
        catalogue: Figures of the catalogue, compared with the items of the interactions.
    """

    interactions: pa.Table
    item_ids: list[str]
    attributes: dict[str, dict[str, Any]]
    lake_version: int
    catalog_version: int | None
    lake_rows: int
    scripted: ScriptedVisitors
    events: EventFigures
    catalogue: CatalogueFigures

    def signals(self, weights: EventWeights) -> NDArray[np.bool_]:
        """A mask of the events that have a weight and an item that was not deleted.

        Models are fitted on these events, and asked about them.
        """
        known = pc.is_in(self.interactions["item_id"], pa.array(self.item_ids, pa.string()))
        signals: NDArray[np.bool_] = known.to_numpy() & (
            encoding.event_weights(self.interactions, weights) > 0
        )
        return signals

    def digest(self) -> str:
        """SHA-256 of the interactions: equal for equal data, however the lake keeps its files."""
        digest = hashlib.sha256()
        for batch in (
            self.interactions.select(_COLUMNS).combine_chunks().to_batches(max_chunksize=65_536)
        ):
            for name in _COLUMNS:
                digest.update(repr(batch[name].to_pylist()).encode())
        return digest.hexdigest()


class Moment(NamedTuple):
    """An event, and its visitor's state before it, without events of the same millisecond.

    `listed` says whether the event names the list that led to it.
    """

    state: VisitorState
    item_id: str | None
    timestamp: int
    user_id: str
    listed: bool = False


def read_dataset(
    lake: Lake,
    version: int | None = None,
    catalog_version: int | None = None,
    weights: EventWeights = EventWeights(),
    most_events: int = sys.maxsize,
    *,
    exclude_scripted: bool = True,
) -> Dataset:
    """The lake at a version of its interactions and one of its catalogue.

    None, and a version that is no longer kept, stand for the newest.

    Args:
        weights: Weight of each type of event. Those with a weight are the signals.
        most_events: Most events that are taken, the latest ones.
        exclude_scripted: Whether the events of scripted visitors are left out.

    Raises:
        TooLittleDataError: Nothing was ever written to the lake.
    """
    if version is not None:
        try:
            return _read(
                lake,
                version,
                lake.version("catalog") if catalog_version is None else catalog_version,
                weights,
                most_events,
                exclude_scripted=exclude_scripted,
            )
        except LakeUnavailableError as error:
            log.warning("the lake is read at its newest version", wanted=version, reason=str(error))
    newest = lake.version("interactions")
    if newest is None:
        raise TooLittleDataError(
            "the lake holds no interactions yet: send events to ingestion first"
        )
    return _read(
        lake,
        newest,
        lake.version("catalog"),
        weights,
        most_events,
        exclude_scripted=exclude_scripted,
    )


def _read(
    lake: Lake,
    version: int,
    catalog_version: int | None,
    weights: EventWeights,
    most_events: int,
    *,
    exclude_scripted: bool,
) -> Dataset:
    since = _first_day(lake.rows_of_days("interactions", version), most_events)
    columns = [*_COLUMNS, "received_at", "unlearned"]
    interactions = lake.read("interactions", version, columns, received_since=since)
    learned = pc.invert(pc.fill_null(interactions["unlearned"], False))
    interactions = interactions.filter(learned).drop_columns("unlearned")
    interactions = interactions.sort_by([("timestamp", "ascending"), ("event_id", "ascending")])
    if interactions.num_rows > most_events:
        log.info("the latest events are read", events=most_events, of=interactions.num_rows)
        interactions = interactions.slice(interactions.num_rows - most_events)
    catalog = lake.read("catalog", catalog_version)
    interactions = _resolved(interactions, catalog)
    scripted = ScriptedVisitors()
    if exclude_scripted:
        interactions, scripted = _without_scripted(interactions, weights)
    attributes, deleted = _items(catalog)
    events = EventFigures(total=lake.count("interactions", version))
    events.count(interactions)
    interactions = interactions.drop_columns("received_at")
    item_ids = [
        item_id for item_id in encoding.met_items(interactions, weights) if item_id not in deleted
    ]
    return Dataset(
        interactions,
        item_ids,
        attributes,
        version,
        catalog_version,
        events.total,
        scripted,
        events,
        _catalogue_figures(attributes, deleted, events),
    )


def _catalogue_figures(
    attributes: dict[str, dict[str, Any]], deleted: set[str], events: EventFigures
) -> CatalogueFigures:
    """Figures of the catalogue."""
    items = [item_id for item_id in events.items if item_id not in deleted]
    lacking = [item_id for item_id in items if item_id not in attributes]
    return CatalogueFigures(
        items=dict(attributes),
        event_items=len(items),
        lacking=lacking,
        lacking_events=sum(events.items[item_id] for item_id in lacking),
    )


def validate(dataset: Dataset, now_ms: int) -> list[Finding]:
    """The findings about the data, at the present time (ms).

    Raises RefusedDataError where one of them refuses the run.
    """
    findings = list(check_catalogue(dataset.catalogue))
    if dataset.events.sampled or not dataset.scripted.visitors:  # else `require` says what is left
        findings = [*check_events(dataset.events, now_ms), *findings]
    for found in refusals(findings):
        raise RefusedDataError(
            f"the data are refused ({found.check}): {found.figure}; {found.why}. "
            f"To do: {found.remedy}"
        )
    return findings


def _without_scripted(
    interactions: pa.Table, weights: EventWeights
) -> tuple[pa.Table, ScriptedVisitors]:
    """The interactions without those of scripted visitors, and counts of these."""
    weighty = pa.array(encoding.event_weights(interactions, weights) > 0)
    signals = interactions.filter(pc.and_(weighty, pc.is_valid(interactions["item_id"])))
    users, items = (
        signals[name].combine_chunks().dictionary_encode() for name in ("user_id", "item_id")
    )
    found, scripted = find_scripted(
        users.indices.to_numpy(), items.indices.to_numpy(), signals["timestamp"].to_numpy()
    )
    if not scripted.visitors:
        return interactions, scripted
    theirs = pc.is_in(interactions["user_id"], users.dictionary.filter(pa.array(found)))
    return interactions.filter(pc.invert(theirs)), scripted


def _first_day(rows: Mapping[str, int], most_events: int) -> str | None:
    """The day from which the lake has that many events; None where it never had more."""
    found = 0
    for day in sorted(rows, reverse=True):
        found += rows[day]
        if found >= most_events:
            return day
    return None


def require(
    dataset: Dataset, signals: NDArray[np.bool_], events: int, visitors: int, items: int
) -> None:
    """Raises TooLittleDataError when there are fewer signals, visitors or items than needed.

    Args:
        signals: Mask of the events that models are fitted on.
        events: Fewest signals.
        visitors: Fewest visitors with a signal.
        items: Fewest items with a signal.
    """
    table = dataset.interactions.filter(pa.array(signals))
    counts = {
        "events on items": (table.num_rows, events),
        "visitors": (len(pc.unique(table["user_id"])), visitors),
        "items": (len(pc.unique(table["item_id"])), items),
    }
    lacking = [
        f"{have} {name} (at least {need})" for name, (have, need) in counts.items() if have < need
    ]
    if lacking:
        left_out = f". Left out: {dataset.scripted.words()}" if dataset.scripted.visitors else ""
        raise TooLittleDataError(
            f"too little data to train on: the lake has {', '.join(lacking)}{left_out}"
        )


def moments(interactions: pa.Table, rows: Rows) -> Iterator[Moment]:
    """The moments of these rows, by visitor and time.

    A moment's state has the events that are strictly earlier. It is folded by the functions that
    fold the stream, so that it is the state that serving would have read.
    """
    wanted = pc.unique(interactions["user_id"].take(pa.array(rows)))
    asked = set(rows.tolist())
    table = interactions.append_column("row", pa.array(np.arange(interactions.num_rows)))
    table = table.filter(pc.is_in(interactions["user_id"], wanted)).sort_by("user_id")
    for _, theirs in groupby(_records(table), key=lambda record: record.interaction.user_id):
        for record, state in training_rows.moments(theirs, lambda record: record.offset in asked):
            event = record.interaction
            listed = event.recommendation_id is not None
            yield Moment(state, event.item_id, event.timestamp, event.user_id, listed)


def _records(table: pa.Table) -> Iterator[StreamInteraction]:
    """The rows as interactions, at the position of their number."""
    for batch in table.to_batches(max_chunksize=16_384):
        for row in batch.to_pylist():
            # The lake holds what was validated on its way in.
            yield StreamInteraction(
                "", row.pop("row"), Interaction.model_construct(**row, **_UNREAD)
            )


def _resolved(interactions: pa.Table, catalog: pa.Table) -> pa.Table:
    """The interactions with each visitor who turned out to be a user under the user's id."""
    records = catalog.filter(pc.equal(catalog["entity"], "identity"))
    merged = Identities(
        link
        for row in records.to_pylist()
        for link in links_of(
            Link(
                row["entity_id"],
                json.loads(row["attributes"])[MERGED_INTO],
                row["topic_id"],
                row["offset"],
                row["timestamp"],
                bool(row["proven"]) or not row["by_browser"],
            )
        )
    ).merged()
    if not merged:
        return interactions
    users = interactions["user_id"]
    place = pc.index_in(users, pa.array(list(merged), pa.string()))
    resolved = pc.coalesce(
        pa.array(list(merged.values()), pa.string()).take(place.combine_chunks()),
        users.combine_chunks(),
    )
    return interactions.set_column(
        interactions.schema.get_field_index("user_id"), "user_id", resolved
    )


def _place(row: Mapping[str, Any]) -> CatalogPlace:
    return CatalogPlace(
        source_name(row["topic_id"], row["partition"]),
        row["offset"],
        row["timestamp"],
        bool(row["client_time"]),
    )


def _items(catalog: pa.Table) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """The attributes of each item in its newest record, and the items that were deleted."""
    newest: dict[str, dict[str, Any]] = {}
    records = catalog.filter(pc.equal(catalog["entity"], "item")).to_pylist()
    for record in in_order_of_logs(records, _place):
        held = newest.get(record["entity_id"])
        if held is None or _place(record).replaces(_place(held)):
            newest[record["entity_id"]] = record
    deleted = {item_id for item_id, record in newest.items() if record["deleted"]}
    kept: Sequence[str] = [item_id for item_id in newest if item_id not in deleted]
    return {item_id: json.loads(newest[item_id]["attributes"] or "{}") for item_id in kept}, deleted
