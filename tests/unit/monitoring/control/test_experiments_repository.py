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


def table_with_placements(db: Engine) -> ExperimentTable:
    """The table, where the placements home and cart exist."""
    for name in ("home", "cart"):
        PlacementTable(db).put(name, PlacementPolicy(), CHANGE)
    return ExperimentTable(db)


@pytest.fixture
def table(db: Engine) -> ExperimentTable:
    return table_with_placements(db)


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
    *_, told, _, _ = AuditLog(db, AUDIT).page(10, None).items  # behind two of placements
    expected = {"revision": 1, "state": "running", "variants": ["a", "b"], "models": []}
    assert told.detail == expected


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


@pytest.mark.parametrize(
    "changes",
    [
        {"placements": ["home", "home-b"]},
        {"variants": [{"name": "a"}, {"name": "b", "placement": "home-b"}]},
    ],
    ids=["covered", "of a variant"],
)
def test_an_experiment_names_placements_that_are_there(
    db: Engine, table: ExperimentTable, changes: dict[str, Any]
) -> None:
    other, placements = design(**changes), PlacementTable(db)
    with pytest.raises(UnknownPlacementError, match=r"no placement home-b \(did you mean home\?\)"):
        table.put("calmer", other, CHANGE)
    placements.put("home-b", PlacementPolicy(), CHANGE)
    table.put("calmer", other, CHANGE)
    placements.delete("home-b", CHANGE)
    # It can still be stopped.
    assert not table.put("calmer", other.model_copy(update={"state": "stopped"}), CHANGE).created
