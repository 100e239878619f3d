"""A running stack as `slipstream doctor` sees it, before and after something is wrong with it."""

import json
import os
import subprocess
import sys
import time
from typing import Any

from tests.e2e import shop
from tests.e2e.stack import Stack, caught_up, wait_for

NO_CAUSE = {"not_readable", "service_down", "no_model", "no_purchases", "idle_rules"}


def find_wrongs(stack: Stack) -> None:
    """The doctor tells what it looked at, then a rule that matches nothing and a dead letter.

    The stack has the shop's catalogue, a model, and no dead letters.
    """
    status = wait_for(lambda: caught_up(stack), "features to catch up")
    events = status["lake"]["interactions"]
    # Serving takes a promoted model into service a moment later.
    clean = wait_for(lambda: in_order(stack), "the doctor to find the shop in order", 30.0)
    assert clean["looked_at"] == {
        "services": "5",
        "events": f"{events:,} of {events:,}",
        "items": f"{len(shop.ITEMS)}",
        "dead letters": "0",
    }

    rule = {"name": "mistyped", "action": "include", "filter": 'category == "Tea"'}
    stack.put("monitoring", "/v1/placements/typo", {"rules": [rule]})
    event = shop.track("tea-lover-0", "purchase", "", time.time())
    assert stack.post("ingestion", "/v1/batch", {"batch": [event]})["accepted"] == 0

    def both() -> dict[str, Any] | None:
        found = {finding["check"]: finding for finding in examined(stack)["findings"]}
        return found if {"idle_rules", "dead_letters"} <= set(found) else None

    found = wait_for(both, "the rule and the letter to be found")
    assert "mistyped of typo" in found["idle_rules"]["figure"]
    assert found["dead_letters"]["figure"].startswith("1 dead letter,")


def wrongs(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Findings that the shop gives no cause for, whatever else this machine does."""
    return [finding for finding in answer["findings"] if finding["check"] in NO_CAUSE]


def in_order(stack: Stack) -> dict[str, Any] | None:
    found = examined(stack)
    return None if wrongs(found) else found


def examined(stack: Stack) -> dict[str, Any]:
    """What `slipstream doctor --json` prints; its exit status is that of the heaviest finding."""
    ended = subprocess.run(
        [sys.executable, "-m", "slipstream_cli", "doctor", "--json"],
        env={**os.environ, "SLIPSTREAM_DATA_DIR": str(stack.directory)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    answer: dict[str, Any] = json.loads(ended.stdout)
    weights = [("note", "warning", "critical").index(it["weight"]) for it in answer["findings"]]
    assert ended.returncode == max(weights, default=0)
    return answer
