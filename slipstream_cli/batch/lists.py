"""Lists for many visitors by a bundle's kernels, written to a Parquet file as they are made."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slipstream.models.base import Mask
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.plan import ListRequest, Lists
from slipstream.recommender.stages import list_request
from slipstream_cli.batch.histories import VisitorHistory

# Columns of the file. `rank` begins with 1. `score` is the item's probability among the candidates,
# `source` the retriever with the largest part of it.
SCHEMA: Final = pa.schema(
    [
        ("user_id", pa.string()),
        ("rank", pa.int16()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
        ("source", pa.string()),
        ("model_version", pa.string()),
    ]
)
# Visitors of one call of the kernels.
_AT_ONCE: Final = 256


def write_lists(
    out: Path,
    bundle: Bundle,
    version: str,
    visitors: Iterable[VisitorHistory],
    n: int,
    allowed: Mask,
    done: Callable[[int], None],
) -> int:
    """Write the `n` best items of each visitor; returns the number of visitors.

    Every core makes lists. The file appears whole or not at all.

    Args:
        out: File to write; one that is there is replaced.
        bundle: The model.
        version: Its version, for the file.
        visitors: The visitors, who are read as lists are made.
        n: Length of a list; shorter where no more may be shown.
        allowed: Whether each item of the bundle may be shown.
        done: Called with the number of visitors so far.
    """
    request, written = list_request(n, allowed), 0
    part = out.with_name(f".{out.name}.part")
    try:
        with pq.ParquetWriter(part, SCHEMA, compression="zstd") as file:
            for group, lists in _made(bundle, request, visitors):
                file.write_table(_rows(bundle, version, group, lists))
                written += len(group)
                done(written)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return written


def _made(
    bundle: Bundle, request: ListRequest, visitors: Iterable[VisitorHistory]
) -> Iterator[tuple[Sequence[VisitorHistory], Lists]]:
    """Groups of visitors with their lists, in order; a few groups ahead of the reader at most."""
    rest = iter(visitors)
    cores = os.cpu_count() or 1
    waiting: deque[tuple[Sequence[VisitorHistory], Future[Lists]]] = deque()
    with ThreadPoolExecutor(cores, "kernels") as threads:
        while True:
            while len(waiting) < 2 * cores and (group := list(islice(rest, _AT_ONCE))):
                call = threads.submit(
                    bundle.plan.recommend,
                    [one.history for one in group],
                    request,
                    [one.excluded for one in group],
                )
                waiting.append((group, call))
            if not waiting:
                return
            asked, made = waiting.popleft()
            yield asked, made.result()


def _rows(bundle: Bundle, version: str, group: Sequence[VisitorHistory], lists: Lists) -> pa.Table:
    listed = lists.items >= 0
    visitor, place = np.nonzero(listed)
    item_ids = pa.array(bundle.item_ids, pa.string())
    names = pa.array(list(bundle.retrievers), pa.string())
    return pa.table(
        [
            pa.array([one.user_id for one in group], pa.string()).take(pa.array(visitor)),
            pa.array(place + 1, pa.int16()),
            item_ids.take(pa.array(lists.items[listed])),
            pa.array(lists.scores[listed], pa.float32()),
            names.take(pa.array(lists.sources[listed])),
            pa.array([version], pa.string()).take(pa.array(np.zeros(len(visitor), np.int8))),
        ],
        schema=SCHEMA,
    )
