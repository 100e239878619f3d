"""The SQL tables of experiments, and what must not be true of two of them."""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Connection, select

from services.monitoring.control.guards import Judgement
from services.monitoring.control.named_records_repository import (
    PlacementTable,
    RecordTable,
    record_tables,
)
from services.monitoring.control.results import ExperimentResults
from services.monitoring.control.results_repository import (
    clicks_high,
    experiment_results,
    judgement,
)
from slipstream.contracts.experiments import Experiment, ExperimentDesign
from slipstream.contracts.spellings import did_you_mean
from slipstream.stores.metadata import new_metadata

TABLES: Final = new_metadata()


class ExperimentsCollideError(Exception):
    """Another experiment counts for the same placement at the same time."""

    def __init__(self, other: str) -> None:
        super().__init__(f"experiment {other} runs on one of its placements at the same time")


class UnknownPlacementError(Exception):
    """The experiment, or a variant, names a placement that does not exist."""

    def __init__(self, placement: str, known: Collection[str]) -> None:
        super().__init__(
            f"there is no placement {placement} ({did_you_mean(placement, known)}); one without "
            "rules has the policy {}"
        )


class ExperimentTable(RecordTable[Experiment, ExperimentDesign]):
    """The experiments."""

    tables = record_tables(TABLES, "experiment", "design")
    field = "design"
    most = 200
    turn = 0x51_1B_57_50  # an arbitrary number
    record_type, content_type = Experiment, ExperimentDesign

    def results(self, name: str, now_ms: int) -> ExperimentResults:
        """The results of an experiment as it is now. Raises `NoRecordError`."""
        return experiment_results(self._engine, self.find(name), now_ms)

    def canaries(self, now_ms: int) -> list[Experiment]:
        """The experiments of kind canary that count at this time."""
        with self._engine.connect() as db:
            return [
                it
                for it in self.all_of(db)
                if it.design.kind == "canary" and it.design.counts(now_ms)
            ]

    def returned(self, since: int) -> list[Experiment]:
        """The canaries that were stopped by their guard since a time (ms), by name."""
        with self._engine.connect() as db:
            stopped = [it for it in self.all_of(db) if it.design.stopped_because]
        return sorted((it for it in stopped if it.changed_at >= since), key=lambda it: it.name)

    def clicks_high(self, canary: Experiment) -> float | None:
        """The upper end of a canary's relative click-through, from the sums of all its visitors."""
        return clicks_high(self._engine, canary)

    def judgement(self, canary: Experiment, clicks_high: float | None, now_ms: int) -> Judgement:
        """The judgement of a canary by its guard, at this time."""
        return judgement(self._engine, canary, clicks_high, now_ms)

    def check(self, db: Connection, name: str, content: ExperimentDesign, /) -> None:
        """Raise `ExperimentsCollideError` or `UnknownPlacementError`; a stopped one may be kept."""
        if content.state != "running":
            return
        for other in self.all_of(db):
            if other.name != name and other.design.collides(content):
                raise ExperimentsCollideError(other.name)
        placements = PlacementTable.tables.newest.c
        known = set(db.scalars(select(placements.name).where(~placements.deleted)))
        for placement in (*content.placements, *(it.placement for it in content.variants)):
            if placement and placement not in known:
                raise UnknownPlacementError(placement, known)

    def detail(self, content: ExperimentDesign, /) -> dict[str, Any]:
        """The state, the names of the variants, and their models."""
        return {
            "state": content.state,
            "variants": [it.name for it in content.variants],
            "models": [it.model for it in content.variants if it.model],
        }
