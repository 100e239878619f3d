"""Sums of a period's clicks over visitors, from the lake and the credits: once it is complete.

They are what the trend of click-through is judged by (`click_trend`).
"""

from collections.abc import Callable, Iterator
from typing import Final

import pyarrow as pa

from services.monitoring.click_trend import LASTING, ClickSums
from services.monitoring.counting.credit import bounded_database
from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.window_repository import WindowLog
from slipstream.contracts.times import DAY_MS
from slipstream.stores.lake_reader import LakeReader, day_of
from slipstream.stores.tables import RECOMMENDATIONS, SCHEMAS

_COLUMNS: Final = (
    *("recommendation_id", "user_id", "placement", "experiment", "answered_by", "purpose"),
)
# A period is summed when the lake has a list from so long after it, or from a tenth of its length:
# partitions of the topic reach the lake one after another.
_GRACE_MS: Final = 60_000
# The model's lists outside experiments; each of these has items.
_SQL: Final = """
SELECT placement, count(*), sum(n), sum(c), sum(n * n), sum(c * c), sum(n * c) FROM (
    SELECT coalesce(placement, '') AS placement, count(*)::DOUBLE AS n,
        count(*) FILTER (recommendation_id IN (FROM clicked))::DOUBLE AS c
    FROM lists
    WHERE purpose = 'shown' AND answered_by = 'model' AND coalesce(experiment, '') = ''
    GROUP BY coalesce(placement, ''), user_id
) GROUP BY placement
"""


class ClickPeriods:
    """Sums the last periods, each once. One thread at a time uses it.

    Args:
        windows: Where sums are kept.
        window_ms: Time after a period in which its lists may still be clicked.
        renew: Renews the lease, or raises: another instance may act by now.
    """

    def __init__(
        self,
        lake: LakeReader,
        table: OutcomeTable,
        windows: WindowLog,
        length_ms: int,
        window_ms: int,
        renew: Callable[[], None] = lambda: None,
    ) -> None:
        self._lake, self._table, self._windows = lake, table, windows
        self._length_ms, self._window_ms, self._renew = length_ms, window_ms, renew

    def step(self, newest_ms: int) -> None:
        """Sum what is due. The lake is counted, and its newest list is of that time (ms)."""
        length = self._length_ms
        complete = newest_ms - self._window_ms - min(_GRACE_MS, length // 10)
        newest = complete - complete % length - length
        oldest = newest - (LASTING - 1) * length
        if oldest < 0:
            return
        known = {start for start, _ in self._windows.clicks(length, oldest)}
        for start in range(oldest, newest + 1, length):
            if start not in known:
                sums = self._sums(start)
                self._renew()
                self._windows.add_clicks(length, start, sums)

    def _sums(self, start: int) -> dict[str, ClickSums]:
        """The sums by placement. DuckDB reads the lists one batch after another."""
        end = start + self._length_ms
        with bounded_database() as db:
            db.execute("CREATE TABLE clicked (recommendation_id VARCHAR)")
            for ids in self._table.clicked(start, end + self._window_ms):
                db.register("ids", pa.table({"id": pa.array(ids, pa.string())}))
                db.execute("INSERT INTO clicked SELECT id FROM ids")
            schema = pa.schema([SCHEMAS[RECOMMENDATIONS].field(name) for name in _COLUMNS])
            db.register("lists", pa.RecordBatchReader.from_batches(schema, self._lists(start, end)))
            return {
                name: ClickSums(*map(float, sums)) for name, *sums in db.execute(_SQL).fetchall()
            }

    def _lists(self, start: int, end: int) -> Iterator[pa.RecordBatch]:
        version = self._lake.version(RECOMMENDATIONS)
        if version is None:
            return iter(())
        since = day_of(start - DAY_MS)
        return self._lake.scan(
            RECOMMENDATIONS, version, _COLUMNS, received_since=since, times=(start, end - 1)
        )
