"""What was accepted, compared with what is kept of it: in the lake event by event, in Redis by what
it counts.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from slipstream.stores.lake import INTERACTIONS, Lake
from tests.faults.reckoning import Findings, compare_events
from tests.faults.traffic import Event, Sent

COLUMNS = ("user_id", "item_id", "event_type", "timestamp")
# Visitors of the traffic that stay who they are.
UNMERGED = ("loner-", "probe-")


@dataclass(frozen=True)
class Accepted:
    """What ingestion accepted: a history, all of it, and messages; what it never answered may be
    there, once.
    """

    # interactions with COLUMNS, and others
    history: pa.Table
    acknowledged: Sequence[Sent]
    unacknowledged: Sequence[Sent]

    @cached_property
    def replayed(self) -> pa.Table:
        return self.history.select(COLUMNS)

    def named(self) -> Iterator[tuple[str, str | None, str]]:
        """Visitor, item and type of each event that was accepted for sure."""
        yield from zip(*(self.replayed[name].to_pylist() for name in COLUMNS[:3]), strict=True)
        yield from (
            (e.user_id, e.item_id, e.event_type) for sent in self.acknowledged for e in sent.events
        )


def compare_lake(found: Findings, lake: Lake, accepted: Accepted) -> None:
    """Each accepted event is one row. Those of the history are known by what they say, the others
    by their ids.
    """
    rows = lake.read(INTERACTIONS, columns=[*Event._fields])
    of_history = pc.is_in(rows["user_id"], pc.unique(accepted.replayed["user_id"]))
    due, held = _counted(accepted.replayed), _counted(rows.filter(of_history))
    for event, times in (due - held).items():
        found.say("lost", f"{event} ×{times}")
    for event, times in (held - due).items():
        found.say("double" if event in due else "foreign", f"{event} ×{times}")
    compare_events(
        found, rows.filter(pc.invert(of_history)), accepted.acknowledged, accepted.unacknowledged
    )
    found.figures |= {
        "rows_in_lake": rows.num_rows,
        "distinct_ids_in_lake": len(pc.unique(rows["event_id"])),
    }
    if rows.num_rows != found.figures["distinct_ids_in_lake"]:
        found.say("double", "event ids that more rows than one have")


def compare_counts(
    found: Findings, told: Callable[[str, str], dict[str, int]], accepted: Accepted
) -> None:
    """Each visitor's and each item's events by type, as features tells them of a view ("visitor",
    "item") and an id.

    A visitor that became another is left out.
    """
    views: dict[str, dict[str, Counter[str]]] = {
        "visitor": defaultdict(Counter),
        "item": defaultdict(Counter),
    }
    replayed = set(accepted.replayed["user_id"].to_pylist())
    for visitor, item, event_type in accepted.named():
        if visitor in replayed or visitor.startswith(UNMERGED):
            views["visitor"][visitor][event_type] += 1
        if item is not None:
            views["item"][item][event_type] += 1
    for view, due in views.items():
        for name, counts in due.items():
            held = told(view, name)
            if held != counts:
                found.say(f"{view}'s counts in Redis", f"{name}: {held} instead of {dict(counts)}")
        found.figures[f"{view}s_compared"] = len(due)


def _counted(rows: pa.Table) -> Counter[tuple[Any, ...]]:
    return Counter(zip(*(rows[name].to_pylist() for name in COLUMNS), strict=True))
