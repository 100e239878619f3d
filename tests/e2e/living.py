"""Shoppers of the living simulator on a running stack, and what monitoring makes of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.stack import Stack, wait_for


def visited(stack: Stack, folder: Path) -> dict[str, Any]:
    """The truth of `slipstream simulate --live`, after a few seconds of visits."""
    path = folder / "truth.json"
    words = ["simulate", "--live", "--seconds", "3", "--rate", "60", "--shift", "1.5"]
    shop = ["--shoppers", "30", "--items", "60", "--json", str(path)]
    ended = subprocess.run(
        [sys.executable, "-m", "slipstream_cli", *words, *shop],
        env={**os.environ, "SLIPSTREAM_DATA_DIR": str(stack.directory)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    truth: dict[str, Any] = json.loads(path.read_text())
    return truth


def counted(stack: Stack) -> tuple[int, int]:
    """The lists that monitoring knows, and those of them that were clicked."""
    total = stack.get("monitoring", "/v1/reports/quality", hours=1)["total"]
    return total["slates"], total["click_through"]["count"]


def count_visits(stack: Stack, folder: Path) -> None:
    """Monitoring counts the lists that shoppers looked at, and at least the clicks that named them.

    What they found otherwise may be credited to a list, too.
    """
    lists_before, clicked_before = counted(stack)
    truth = visited(stack, folder)
    groups = truth["groups"]
    assert {group["phase"] for group in groups} == {"before", "after"}
    assert truth["rejected"] == truth["unanswered"] == {} and truth["unsent"] == 0
    lists = sum(group["lists"] for group in groups)
    clicked = sum(group["clicked"] for group in groups)
    assert lists > 10

    def all_counted() -> bool:
        # Lists from before may be counted late.
        slates, clicks = counted(stack)
        return slates >= lists_before + lists and clicks >= clicked_before + clicked

    wait_for(all_counted, f"monitoring to count {lists} lists, {clicked} of them clicked")
