"""Export of what both stores hold of a user, as lines of JSON."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from services.features.history.erased_people import entries_around, links_in, names_of
from slipstream.features.identity import Identities
from slipstream.features.visitor import VisitorState
from slipstream.stores.lake import Lake
from slipstream.stores.row_erasure import ROWS_OF_VISITORS


def exported(lake: Lake, user_id: str, state: VisitorState | None) -> Iterator[bytes]:
    """The user's data: one JSON object a line, `kind` first.

    `visitor` has the ids that are this user, and the state online. `entry` is a record about the
    user or a link, `interactions` and `recommendations` are rows of the lake. The events of every
    linked visitor are the user's. A visitor who is the user by a page's word alone is shown alone.

    Args:
        lake: The lake.
        user_id: The user.
        state: The user's state online; None when there is none.
    """
    entries = entries_around(lake, {user_id})
    identities = Identities(
        link for each in entries if each.record.entity == "identity" for link in links_in(each)
    )
    names = sorted(identities.ids_proven(user_id))
    yield _line(
        {
            "kind": "visitor",
            "ids": names,
            "counts": state.counts if state else {},
            "first_seen": state.first_seen if state else None,
            "last_seen": state.last_seen if state else None,
            "sequence": [event._asdict() for event in state.sequence] if state else [],
            "impressions": [each._asdict() for each in state.impressions] if state else [],
        }
    )
    for entry in entries:
        record = entry.record
        if not names_of(record).isdisjoint(names):
            yield _line({"kind": "entry", **record.model_dump(exclude={"cut"})})
    for table, (columns, _) in ROWS_OF_VISITORS.items():
        for row in _rows(lake, table, columns, names):
            yield _line({"kind": table, **row})


def _rows(
    lake: Lake, table: str, columns: Sequence[str], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    wanted = pa.array(names, pa.string())
    for batch in lake.scan(table):
        theirs = reduce(pc.or_, [pc.is_in(batch[column], wanted) for column in columns])
        yield from batch.filter(theirs).to_pylist()


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value) + b"\n"
