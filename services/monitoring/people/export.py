"""Export of the rows that monitoring's tables hold of visitors, as lines of JSON."""

from collections.abc import Collection, Iterator
from typing import Final

import orjson

from services.monitoring.repository import SlateLog

# Columns that hold JSON.
_DOCUMENTS: Final = ("items", "features")


def exported(slates: SlateLog, visitor_ids: Collection[str]) -> Iterator[bytes]:
    """Slates that these visitors were shown, their shadows, and responses: one JSON object a line,
    `kind` first, in the order of their ids.
    """
    for kind, row in slates.rows_of(visitor_ids):
        opened = {name: orjson.loads(row[name]) for name in _DOCUMENTS if name in row}
        yield orjson.dumps({"kind": kind, **row, **opened}) + b"\n"
