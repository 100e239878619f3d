"""Monitoring's outcomes after a fault test, against the same lake counted at once."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import SecretStr

from services.monitoring.counting.counter import Counter
from services.monitoring.counting.credit import Rules
from services.monitoring.counting.outcomes import report
from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.migrations import MIGRATIONS
from slipstream.chassis.settings import DatabaseSettings
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.stores.lake import Lake
from slipstream.stores.metadata import engine
from slipstream.stores.migrations import migrate
from tests.e2e.stack import Stack
from tests.faults.reckoning import Findings, Stores

# Of what lies further back, the start of the test may have been too late to count it.
HOURS = 48
_TOLD = ("total", "without_credit", "scripted")


def compare_outcomes(found: Findings, stack: Stack, stores: Stores, patience_s: float) -> None:
    """Compare the sums of two days, once they are alike or have not been for `patience_s`."""
    due, until = _counted_at_once(stores), time.monotonic() + patience_s
    while True:
        told = stack.get("monitoring", "/v1/reports/outcomes", hours=HOURS)
        held = {name: told[name] for name in _TOLD}
        if held == due or time.monotonic() > until:
            break
        time.sleep(1)
    for name in _TOLD:
        if held[name] != due[name]:
            found.say(f"outcomes, {name}", f"{held[name]} instead of {due[name]}")
    found.figures |= {
        "purchases_counted": due["total"]["purchases"] + due["without_credit"]["purchases"],
        "places_answered": due["total"]["answers"],
    }


def _counted_at_once(stores: Stores) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        url = SecretStr(f"sqlite:///{Path(folder) / 'metadata.db'}")
        database = engine(DatabaseSettings(url=url))
        migrate(database, MIGRATIONS)
        table = OutcomeTable(database, lambda _digests: {})
        Counter(Lake(stores.lake, stores.namespace), table, Rules(), now_ms).step()
        now = now_ms()
        rows = list(table.rows(now - HOURS * HOUR_MS, now))
        database.dispose()
    told = report(rows, 0, now, [], None, {}).model_dump(mode="json")
    return {name: told[name] for name in _TOLD}
