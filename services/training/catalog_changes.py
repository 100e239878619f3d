"""Changes of the catalogue since a run read it."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from slipstream.chassis.logging import get_logger
from slipstream.stores.lake import CATALOG, SCHEMAS, Lake, LakeUnavailableError

log = get_logger(__name__)

_SCHEMA = pa.schema(
    [
        SCHEMAS[CATALOG].field(name)
        for name in ("entity", "entity_id", "topic_id", "partition", "offset")
    ]
)


class CatalogChanges:
    """Counts items that were added, changed or deleted.

    It reads only files of the lake that are new, and remembers its last answer.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._answer: tuple[tuple[int, int | None], int] | None = None

    def since(self, version: int | None) -> int:
        """The number of items with a record that is newer than this version of the catalogue.

        None counts every item that ever had a record. An item that was sent again counts, even
        unchanged. 0 for a version that the lake no longer has: changes since then can't be counted.
        """
        newest = self._lake.version(CATALOG)
        if newest is None:
            return 0
        question = (newest, version)
        if self._answer is None or self._answer[0] != question:
            self._answer = question, self._count(newest, version)
        return self._answer[1]

    def _count(self, newest: int, before: int | None) -> int:
        if before is None:
            return _items(
                pa.Table.from_batches(self._lake.scan(CATALOG, newest, _SCHEMA.names), _SCHEMA)
            )
        try:
            covered = self._lake.covered(CATALOG, before)
            rows = pa.Table.from_batches(
                self._lake.scan_since(CATALOG, newest, before, _SCHEMA.names), _SCHEMA
            )
        except LakeUnavailableError as error:
            log.info(
                "the catalogue's changes can't be counted", since_version=before, reason=str(error)
            )
            return 0
        return _items(_later(rows, covered))


def _later(rows: pa.Table, covered: Callable[[str], int]) -> pa.Table:
    """The rows that are not covered; files that were merged since have older rows, too."""
    sources = pc.binary_join_element_wise(
        rows["topic_id"], rows["partition"].cast(pa.string()), ":"
    )
    known = pc.unique(sources)
    last = pa.array([covered(source) for source in known.to_pylist()], pa.int64())
    return rows.filter(
        pc.greater(rows["offset"], last.take(pc.index_in(sources, known).combine_chunks()))
    )


def _items(rows: pa.Table) -> int:
    return int(
        pc.count_distinct(rows["entity_id"].filter(pc.equal(rows["entity"], "item"))).as_py()
    )
