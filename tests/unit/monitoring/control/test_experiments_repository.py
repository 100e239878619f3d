"""The newest state of experiments, and what must not be true of two, in real SQLite."""

from typing import Any

import pytest
from sqlalchemy import Engine

from services.monitoring.control.experiments_repository import (
    ExperimentsCollideError,
    ExperimentTable,
    UnknownPlacementError,
)
from services.monitoring.control.named_records_repository import PlacementTable
from services.monitoring.slate_tables import AUDIT
from slipstream.contracts.experiments import ExperimentDesign
from slipstream.contracts.placements import PlacementPolicy
from slipstream.contracts.rest import AuditRecord
from slipstream.stores.metadata import AuditLog

CHANGE = AuditRecord(at=1, principal="ada", action="put_experiment", subject="calmer")


def design(**changes: Any) -> ExperimentDesign:
    variants = [{"name": "a"}, {"name": "b", "diversity": 0.5}]
    return ExperimentDesign.model_validate({"placements": ["home"], "variants": variants} | changes)


@pytest.fixture
def table(db: Engine) -> ExperimentTable:
    return ExperimentTable(db)


def test_every_change_is_a_revision_with_an_audit_record(
    db: Engine, table: ExperimentTable
) -> None:
    table.put("calmer", design(), CHANGE)
    assert not table.put("calmer", design(), CHANGE).created
    table.put("calmer", design(state="stopped"), CHANGE)
    gone = table.delete("calmer", CHANGE)
    assert (gone.revision, gone.deleted, gone.design) == (3, True, design(state="stopped"))
    assert [it.revision for it in table.revisions("calmer", 9)] == [3, 2, 1]
    assert table.unpublished() == [gone]
    told = AuditLog(db, AUDIT).page(10, None).items
    expected = {"revision": 1, "state": "running", "variants": ["a", "b"], "models": []}
    assert told[-1].detail == expected


def test_two_that_count_for_one_placement_at_a_time_are_refused(table: ExperimentTable) -> None:
    table.put("first", design(ends_at=50), CHANGE)
    with pytest.raises(ExperimentsCollideError, match="experiment first runs"):
        table.put("second", design(placements=["cart", "home"]), CHANGE)
    assert len(table.page(9)) == 1
    table.put("stopped", design(state="stopped"), CHANGE)
    table.put("elsewhere", design(placements=["cart"]), CHANGE)
    table.put("first", design(ends_at=60), CHANGE)
    table.put("later", design(starts_at=60), CHANGE)
    table.delete("first", CHANGE)
    table.put("second", design(ends_at=60), CHANGE)


def test_a_variant_takes_the_policy_of_a_placement_that_is_there(
    db: Engine, table: ExperimentTable
) -> None:
    other = design(variants=[{"name": "a"}, {"name": "b", "placement": "home-b"}])
    placements = PlacementTable(db)
    placements.put("home", PlacementPolicy(), CHANGE)
    with pytest.raises(
        UnknownPlacementError, match="placement home-b, which is not there; did you mean home"
    ):
        table.put("calmer", other, CHANGE)
    placements.put("home-b", PlacementPolicy(), CHANGE)
    table.put("calmer", other, CHANGE)
    placements.delete("home-b", CHANGE)
    # It can still be stopped.
    assert not table.put("calmer", other.model_copy(update={"state": "stopped"}), CHANGE).created
