"""Withdrawal of imported events: their rows leave the lake, and states that had them follow.

A withdrawn event may be sent again under its id, as a corrected file does (docs/adr/0063).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from services.features.history.lake_snapshot import LakeSnapshot
from services.features.settings import FeaturesSettings
from slipstream.contracts.times import now_ms
from slipstream.features.item import ItemState
from slipstream.features.visitor import VisitorState
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream.stores.online import OnlineStore
from slipstream.stores.rebuild import Rebuild, RebuiltItem, RebuiltVisitor
from slipstream.stores.row_erasure import Hold, RowPosition

# What an event of several products or impressions has behind its message id.
_OF_A_LIST: Final = r":i?\d+$"
_COLUMNS: Final = (
    "event_id", "user_id", "item_id", "source", "topic_id", "partition", "offset", "received_date",
)  # fmt: skip
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Withdrawal:
    """Rows that are withdrawn.

    Attributes:
        rows: Their positions, by the day of their partition.
        messages: Their message ids, by the write key that sent them.
        visitors: Visitors that they were of.
        items: Items that they were about.
    """

    rows: dict[Any, set[RowPosition]] = field(default_factory=dict)
    messages: dict[str, set[str]] = field(default_factory=dict)
    visitors: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(len(positions) for positions in self.rows.values())


def find_rows(
    lake: Lake, message_ids: Collection[str], kept: Collection[str], times: tuple[int, int]
) -> Withdrawal:
    """Find the rows of messages in the lake.

    Args:
        lake: The lake.
        message_ids: Ids of the messages; an event of several products has a row for each.
        kept: Ids that are none of these, whatever they look like.
        times: Least and greatest event time (ms) of the messages.

    Raises:
        LakeUnavailableError: The lake can't be read.
    """
    found = Withdrawal()
    wanted, others = pa.array(message_ids, pa.string()), pa.array(kept, pa.string())
    for batch in lake.scan(INTERACTIONS, columns=_COLUMNS, times=times):
        stems = pc.replace_substring_regex(batch["event_id"], _OF_A_LIST, "")
        whole = pc.is_in(batch["event_id"], wanted)
        part = pc.and_not(pc.is_in(stems, wanted), pc.is_in(batch["event_id"], others))
        mask = pc.or_(whole, part)
        for row, is_whole, stem in zip(
            batch.filter(mask).to_pylist(),
            whole.filter(mask).to_pylist(),
            stems.filter(mask).to_pylist(),
            strict=True,
        ):
            position = row["topic_id"], row["partition"], row["offset"]
            found.rows.setdefault(row["received_date"], set()).add(position)
            sent = found.messages.setdefault(row["source"] or "", set())
            sent.add(row["event_id"] if is_whole else stem)
            found.visitors.add(row["user_id"])
            if row["item_id"] is not None:
                found.items.add(row["item_id"])
    return found


def withdraw(
    lake: Lake,
    found: Withdrawal,
    forget: Callable[[Mapping[str, Collection[str]]], None],
    hold: Hold,
) -> int:
    """Delete rows from the lake; returns their number.

    It is safe while others write, and safe to repeat after an interruption.

    Args:
        lake: The lake.
        found: The rows.
        forget: Makes ingestion forget message ids, by write key, so that they may come again. It
            is called first: what was deleted would not be found for it again.
        hold: Asks the writers of the lake to wait for a while.

    Raises:
        LakeUnavailableError: Storage fails; some rows may be deleted.
    """
    if not found.rows:
        return 0
    forget(found.messages)
    return lake.delete(INTERACTIONS, found.rows, hold)


def empty_states(
    settings: FeaturesSettings, visitors: Collection[str], items: Collection[str]
) -> int:
    """Empty the states of visitors and items without rows in the lake.

    A backfill replaces states by what history has, and does not come to those without history.

    Args:
        settings: Settings of the stores.
        visitors: Visitors with withdrawn events.
        items: Items that these were about.

    Returns:
        The number of states that hold records which the lake lacks, and were left.

    Raises:
        LakeUnavailableError, StoreUnavailableError: A store does not answer.
    """
    lake = Lake(settings.lake, settings.namespace)
    snapshot = LakeSnapshot(lake, ())
    identities, catalog = snapshot.catalog.identities, snapshot.catalog
    users = {identities.resolve(name) for name in visitors}
    names = users.union(*(catalog.members(user) for user in users))
    living, seen = _with_rows(lake, snapshot.version, names, set(items))
    gone = [user for user in sorted(users) if not living & {user, *catalog.members(user)}]
    store = OnlineStore(settings.redis, settings.namespace, settings.retention())
    rebuild = Rebuild(settings.redis, settings.namespace, settings.retention(), snapshot.covered)
    left, now = 0, now_ms()
    try:
        for start in range(0, len(gone), _AT_ONCE):
            some = gone[start : start + _AT_ONCE]
            held = zip(some, rebuild.states(some), strict=True)
            left += len(
                rebuild.visitors(
                    [
                        RebuiltVisitor(
                            user,
                            VisitorState(),
                            catalog.members(user),
                            now,
                            catalog.unproven(user),
                        )
                        for user, state in held
                        if state is not None and state.counts
                    ]
                )
            )
        unseen = sorted(set(items) - seen)
        for start in range(0, len(unseen), _AT_ONCE):
            some = unseen[start : start + _AT_ONCE]
            left += len(
                rebuild.items(
                    [
                        RebuiltItem(item_id, ItemState(), now)
                        for item_id, of_item in zip(some, store.items(some), strict=True)
                        if of_item is not None and (of_item.counts or of_item.neighbours)
                    ]
                )
            )
    finally:
        rebuild.close()
        store.close()
    return left


def _with_rows(
    lake: Lake, version: int | None, visitors: set[str], items: set[str]
) -> tuple[set[str], set[str]]:
    """Those of these visitors and of these items that have rows."""
    living, seen = set[str](), set[str]()
    if version is None:
        return living, seen
    for batch in lake.scan(INTERACTIONS, version, ("user_id", "item_id")):
        living.update(visitors.intersection(pc.unique(batch["user_id"]).to_pylist()))
        seen.update(items.intersection(pc.unique(batch["item_id"]).to_pylist()))
    return living, seen
