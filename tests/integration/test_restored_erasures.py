"""A restore follows the erasures that its backup has not followed, by the ledger."""

from pathlib import Path

import pyarrow as pa
import pytest

from services.monitoring.arrivals import Arrivals
from services.monitoring.people.repository import ErasureLedger
from services.monitoring.slate_tables import AUDIT
from slipstream.contracts.events import CatalogRecord, ErasedVisitors
from slipstream.stores.lake import ERASURES, SCHEMAS, Lake
from slipstream.stores.metadata import AuditLog
from tests.integration.backed_up_shop import Place, place
from tests.integration.test_backup import lake, people

__all__ = ["lake", "people", "place"]


@pytest.mark.servers("real")
def test_a_restore_goes_by_the_ledger_of_erasures_and_not_by_clocks(
    place: Place, lake: Lake, people: list[CatalogRecord], tmp_path: Path
) -> None:
    def request(user: str, erasure_id: str, at: int) -> CatalogRecord:
        return CatalogRecord(
            entity="user",
            entity_id=user,
            deleted=True,
            timestamp=at,
            source="shop",
            erasure_id=erasure_id,
            cut={"people.v1": {}},
        )

    shop, backup = place("shop").migrated(), tmp_path / "backup"
    ledger, before = ErasureLedger(shop.db, 0), request("bo", "e-before", 500)
    shop.records.record(
        Arrivals(
            erasure_requests=[(before, "r-1")],
            erased_visitors=[
                ErasedVisitors(erasure_id="e-before", visitor_ids=["bo"], cut=before.cut)
            ],
        ),
        600,
    )
    ledger.delete_rows(["e-before"], 700)
    # bo came again after that, by a clock that is slow; that of cleo's serving is fast.
    shop.shows("bo", at=100)
    shop.shows("cleo", "anon-of-cleo", "phone-of-cleo", at=9_000)
    assert shop.run("backup", str(backup)).exit_code == 0

    people += [before, request("cleo", "e-since", 2_000), request("dan", "e-waits", 3_000)]
    done = {"erasure_id": "e-since", "erased_at": 2_500, "rows": "{}", "version": 1, "ends": "{}"}
    lake.append(ERASURES, pa.Table.from_pylist([done], SCHEMAS[ERASURES]), {})
    other = place("other")
    restored = other.run("restore", str(backup), "--json", str(tmp_path / "report.json"))
    assert restored.exit_code == 0, restored.output
    assert other.visitors() == ["bo", "phone-of-cleo"], "no record links the phone"

    known = {it: ErasureLedger(other.db, 0).find(it) for it in ("e-before", "e-since", "e-waits")}
    times = {it: (entry.asked_at, bool(entry.deleted_at)) for it, entry in known.items() if entry}
    assert times == {"e-before": (500, True), "e-since": (2_000, True), "e-waits": (3_000, False)}
    audit = AuditLog(other.db, AUDIT).page(9, None).items
    assert sorted((it.principal, it.subject, it.request_id) for it in audit) == [
        ("shop", "e-before", "r-1"),
        ("shop", "e-since", ""),
        ("shop", "e-waits", ""),
    ]
