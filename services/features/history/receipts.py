"""Receipts of erasures: what the lake's own table says, and what is left by now."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pyarrow.compute as pc

from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.contracts.positions import Cut
from slipstream.contracts.rest import ErasureState
from slipstream.contracts.times import HOUR_MS
from slipstream.stores.lake import (
    CATALOG,
    ERASURES,
    INTERACTIONS,
    RECOMMENDATIONS,
    Lake,
    LakeUnavailableError,
)
from slipstream.stores.online import StoreUnavailableError

# A pass deletes its last rows a moment after it has written its receipts.
_PASS_MS: Final = 900_000


class Receipts:
    """Receipts of erasures. Several may be asked for at once: all that wait share one look.

    A look that began before a question does not answer it, since what it saw may be older than
    what the asker knows. Methods raise `LakeUnavailableError`, `BrokerUnavailableError` or
    `StoreUnavailableError`.

    Args:
        beginnings: The first offsets that the topics of personal data still have.
        redis_written_at: When Redis's files were begun (ms); None where that is not known.
    """

    def __init__(
        self,
        lake: Lake,
        beginnings: Callable[[], Cut],
        redis_written_at: Callable[[], int | None],
    ) -> None:
        self._lake, self._beginnings, self._redis = lake, beginnings, redis_written_at
        self._looking = threading.Lock()
        self._begun = 0.0
        self._seen: _Look | LakeUnavailableError | BrokerUnavailableError | StoreUnavailableError

    def find(self, erasure_id: str, now_ms: int) -> ErasureState | None:
        """An erasure's state, and what is left of it; None for one that the lake does not know."""
        asked = time.monotonic()
        with self._looking:
            if self._begun < asked:
                self._begun = time.monotonic()
                try:
                    self._seen = self._look()
                except (
                    LakeUnavailableError,
                    BrokerUnavailableError,
                    StoreUnavailableError,
                ) as error:
                    self._seen = error
            seen = self._seen
            if isinstance(seen, Exception):
                raise seen
            row = seen.erased.get(erasure_id)
            if row is None:
                # The catalogue is the larger table, so it is read for such an erasure only.
                if seen.waiting is None:
                    seen.waiting = self._waiting()
                # One that ended between the two reads is in neither; the next look tells when.
                if erasure_id in seen.waiting or erasure_id in self._erased():
                    return ErasureState(erasure_id=erasure_id)
                return None
            return ErasureState(
                erasure_id=erasure_id,
                erased_at=row["erased_at"],
                rows=orjson.loads(row["rows"]),
                lake_version=row["version"],
                files_left=self._files_left(seen, row["erased_at"], now_ms),
                topics_left=topics_left(orjson.loads(row["ends"]), seen.beginnings),
                redis_written_at=seen.redis_written_at,
            )

    def _look(self) -> "_Look":
        erased = self._erased()
        if not erased:
            return _Look(erased, {}, None)
        return _Look(erased, self._beginnings(), self._redis())

    def _erased(self) -> Mapping[str, Mapping[str, Any]]:
        rows = (row for batch in self._lake.scan(ERASURES) for row in batch.to_pylist())
        return {
            row["erasure_id"]: row for row in sorted(rows, key=lambda each: int(each["erased_at"]))
        }

    def _waiting(self) -> Collection[str]:
        return {
            erasure_id
            for batch in self._lake.scan(CATALOG, columns=("erasure_id",), only="deleted")
            for erasure_id in batch["erasure_id"].to_pylist()
            if erasure_id is not None
        }

    def _files_left(self, seen: "_Look", erased_at: int, now_ms: int) -> int:
        since_h = max(0, now_ms - erased_at - _PASS_MS) // HOUR_MS
        if since_h not in seen.files_left:
            seen.files_left[since_h] = sum(
                self._lake.unneeded_files(table, since_h)
                for table in (INTERACTIONS, RECOMMENDATIONS, CATALOG)
            )
        return seen.files_left[since_h]


@dataclass
class _Look:
    """All that receipts are made of: the lake's rows by erasure, the topics' beginnings, the time
    of Redis's files, the erasures that wait, and the files left since so many hours.
    """

    erased: Mapping[str, Mapping[str, Any]]
    beginnings: Cut
    redis_written_at: int | None
    waiting: Collection[str] | None = None
    files_left: dict[int, int] = field(default_factory=dict)


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
