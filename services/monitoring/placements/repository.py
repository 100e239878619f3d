"""The SQL tables of placements."""

from typing import Any, Final

from services.monitoring.named_records.repository import RecordTable
from services.monitoring.named_records.tables import record_tables
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.stores.metadata import new_metadata

TABLES: Final = new_metadata()


class PlacementTable(RecordTable[Placement, PlacementPolicy]):
    """The placements."""

    tables = record_tables(TABLES, "placement", "policy")
    field = "policy"
    most = 200
    turn = 0x51_1B_57_4F  # an arbitrary number
    record_type, content_type = Placement, PlacementPolicy

    def content_of_deleted(self, _last: PlacementPolicy, /) -> PlacementPolicy:
        """No rules."""
        return PlacementPolicy()

    def detail(self, content: PlacementPolicy, /) -> dict[str, Any]:
        """The number of rules."""
        return {"rules": len(content.rules)}
