"""Erasures of users that the lake has done, and what was learned from it before."""

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from slipstream.contracts.rest import Run
from slipstream.stores.lake import ERASURES, SCHEMAS, Lake

_COLUMNS: Final = ("version", "erased_at")
_NEVER: Final = 2**62


class Learner(Protocol):
    """A model, as its manifest or the registry describes it, or a run."""

    @property
    def learned_from(self) -> int | None:
        """The oldest version of the interactions that it was learned from; None if unknown."""

    @property
    def created_at(self) -> int:
        """When it was fitted (ms)."""


class Reading(NamedTuple):
    """A run under way as a learner."""

    learned_from: int | None
    created_at: int

    @classmethod
    def of(cls, run: Run) -> "Reading":
        """The version that a run, or the killed one that it takes up, has read.

        A run that reported none may have read the lake since it started; a queued one will.
        """
        if run.lake_version is not None:
            return cls(run.lake_version, _NEVER)
        return cls(_NEVER, _NEVER if run.started_at is None else run.started_at)


def is_from_before(learner: Learner, version: Any, erased_at: Any) -> Any:
    """Whether a learner may know the rows of an erasure, or of each of several.

    The time counts, too. A lake that was made again counts its versions from 0, and a model of the
    lake before may have a higher one.

    Args:
        version: Version of the interactions without the rows, a number or an array of them.
        erased_at: When the erasure was done (ms), likewise.
    """
    learned_from = -1 if learner.learned_from is None else learner.learned_from
    return (version > learned_from) | (erased_at > learner.created_at)


class Erasures:
    """The erasures in the lake. They are read again only where their table has changed.

    Methods raise LakeUnavailableError.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._seen: int | None = None
        self._version = self._erased_at = np.zeros(0, np.int64)

    def exist(self) -> bool:
        """Whether there is any."""
        self._read()
        return len(self._version) > 0

    def first_after(self, learner: Learner) -> int | None:
        """Time (ms) of the first erasure of rows that a learner may know; None without one."""
        self._read()
        times = self._erased_at[is_from_before(learner, self._version, self._erased_at)]
        return int(times.min()) if len(times) else None

    def _read(self) -> None:
        version = self._lake.version(ERASURES)
        if version == self._seen:
            return
        schema = pa.schema([SCHEMAS[ERASURES].field(name) for name in _COLUMNS])
        rows = pa.Table.from_batches(self._lake.scan(ERASURES, version, _COLUMNS), schema)
        # A lake that never had interactions has no version of them.
        self._version, self._erased_at = (rows[name].fill_null(0).to_numpy() for name in _COLUMNS)
        self._seen = version
