"""Receipts of erasures: what the lake's own table says, and what is left by now."""

from typing import Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from slipstream.contracts.positions import Cut
from slipstream.contracts.rest import ErasureState
from slipstream.contracts.times import HOUR_MS
from slipstream.stores.lake import CATALOG, ERASURES, INTERACTIONS, RECOMMENDATIONS, Lake

# A pass deletes its last rows a moment after it has written its receipts.
_PASS_MS: Final = 900_000


def receipt(lake: Lake, erasure_id: str, now_ms: int) -> tuple[ErasureState, Cut] | None:
    """An erasure's state by the lake, and the ends of the topics when it was done.

    None for an erasure that the lake knows nothing of. `topics_left` is left empty.
    """
    wanted = pa.array([erasure_id], pa.string())
    rows = [
        row
        for batch in lake.scan(ERASURES)
        for row in batch.filter(pc.is_in(batch["erasure_id"], wanted)).to_pylist()
    ]
    if rows:
        row = max(rows, key=lambda each: int(each["erased_at"]))
        since_h = max(0, now_ms - row["erased_at"] - _PASS_MS) // HOUR_MS
        left = sum(
            lake.unneeded_files(table, since_h)
            for table in (INTERACTIONS, RECOMMENDATIONS, CATALOG)
        )
        state = ErasureState(
            erasure_id=erasure_id,
            erased_at=row["erased_at"],
            rows=orjson.loads(row["rows"]),
            lake_version=row["version"],
            files_left=left,
        )
        return state, orjson.loads(row["ends"])
    for batch in lake.scan(CATALOG, columns=("erasure_id",), only="deleted"):
        if pc.any(pc.is_in(batch["erasure_id"], wanted)).as_py():
            return ErasureState(erasure_id=erasure_id), {}
    return None


def newest_erasure(lake: Lake) -> int:
    """The time (ms) of the last erasure that was done; 0 for none."""
    times = (pc.max(batch["erased_at"]).as_py() for batch in lake.scan(ERASURES))
    return max((time for time in times if time is not None), default=0)


def topics_left(ends: Cut, beginnings: Cut) -> list[str]:
    """The topics that still have records from before these ends, sorted.

    A topic that was made anew since has none.
    """
    return sorted(
        topic
        for topic, sources in ends.items()
        if any(beginnings.get(topic, {}).get(source, end) < end for source, end in sources.items())
    )
