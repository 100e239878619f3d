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
from tests.faults.lists import (
    EXPERIMENT,
    answers_of,
    compared,
    know_experiment,
    plainly_counted,
    results_of,
)
from tests.faults.reckoning import Findings, Stores

# Of what lies further back, the start of the test may have been too late to count it.
HOURS = 48
_TOLD = ("total", "without_credit", "scripted")


def compare_outcomes(
    found: Findings, stack: Stack, stores: Stores, patience_s: float, *, lists: bool
) -> None:
    """Compare the sums of two days, once they are alike or have not been for `patience_s`.

    Args:
        found: Gets the differences.
        stack: The stack.
        stores: Its stores.
        patience_s: Time that monitoring may take to count what has come.
        lists: Whether visitors requested lists of the experiment.
    """
    due, until = _counted_at_once(stores, lists), time.monotonic() + patience_s
    if lists:
        by_variant = dict(plainly_counted(found, Lake(stores.lake, stores.namespace)))
        due["answers"] = by_variant
        total = found.figures["lists_in_experiment"] = sum(by_variant.values())
        counted = sum(it["slates"] for it in due["experiment"]["variants"])
        if counted != total or not total:
            found.say("lists counted at once", f"{counted} of {by_variant}")
    while (held := _held(stack, lists)) != due and time.monotonic() < until:
        time.sleep(1)
    for name, value in due.items():
        if held[name] != value:
            found.say(f"outcomes, {name}", f"{held[name]} instead of {value}")
    found.figures |= {
        "purchases_counted": due["total"]["purchases"] + due["without_credit"]["purchases"],
        "places_answered": due["total"]["answers"],
    }


def _held(stack: Stack, lists: bool) -> dict[str, Any]:
    told = stack.get("monitoring", "/v1/reports/outcomes", hours=HOURS)
    held = {name: told[name] for name in _TOLD}
    if lists:
        results = stack.get("monitoring", f"/v1/experiments/{EXPERIMENT}/results")
        held |= {"experiment": compared(results), "answers": answers_of(results)}
    return held


def _counted_at_once(stores: Stores, lists: bool) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        url = SecretStr(f"sqlite:///{Path(folder) / 'metadata.db'}")
        database = engine(DatabaseSettings(url=url))
        migrate(database, MIGRATIONS)
        table = OutcomeTable(database, lambda _digests: {})
        if lists:
            know_experiment(database)
        Counter(Lake(stores.lake, stores.namespace), table, Rules(), now_ms).step()
        now = now_ms()
        rows = list(table.rows(now - HOURS * HOUR_MS, now))
        experiment = {"experiment": compared(results_of(database))} if lists else {}
        database.dispose()
    told = report(rows, 0, now, [], None, {}).model_dump(mode="json")
    return {name: told[name] for name in _TOLD} | experiment
