"""A backup of a stack of `slipstream up`, and its restore while its broker runs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, caught_up, running, wait_for
from tests.servers import Servers, outside


@pytest.fixture
def stack(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    folder = tmp_path / "slipstream"
    folder.mkdir()
    with outside(servers, tmp_path / "servers") as found, running(folder, found) as stack:
        yield stack


def command(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    given = [*words, "--data-dir", str(stack.directory)]
    return subprocess.run(
        [sys.executable, "-m", "slipstream_cli", *given],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.servers("embedded")
def test_a_restore_has_up_stop_what_it_must_and_follows_the_erasures_since(
    stack: Stack, tmp_path: Path
) -> None:
    viewed = {"event": "Product Viewed", "properties": {"product_id": "i1"}}
    for user in ("ada", "bo"):
        stack.post("ingestion", "/v1/track", {"userId": user} | viewed)
    wait_for(lambda: caught_up(stack), "features to apply the events")
    for user in ("ada", "bo"):
        stack.get("serving", f"/v1/recommendations/{user}")
    stack.put("monitoring", "/v1/placements/home", {})
    assert command(stack, "backup", str(tmp_path / "backup")).returncode == 0
    stack.put("monitoring", "/v1/placements/basket", {})
    auth = (stack.write_key, "")
    stack.clients["ingestion"].delete("/v1/users/ada", auth=auth).raise_for_status()
    before = stack.children

    refused = command(stack, "restore", str(tmp_path / "backup"))
    assert "--overwrite replaces what is there" in refused.stderr
    restored = command(stack, "restore", str(tmp_path / "backup"), "--overwrite")
    assert restored.returncode == 0, restored.stderr
    assert re.search(r"rows of [1-9] visitors that asked", restored.stdout), restored.stdout
    assert "the broker does not answer" not in restored.stdout
    for name in ("training", "monitoring"):
        wait_for(lambda: stack.get(name, "/health/ready"), f"{name} to be ready again")  # noqa: B023
    names = [it["name"] for it in stack.get("monitoring", "/v1/placements")["items"]]
    assert names == ["basket", "home"]
    after = stack.children
    assert {name for name in after if after[name] != before[name]} == {"training", "monitoring"}
    said = (stack.directory / "up.log").read_text()
    assert "a restore begins: training and monitoring stop until it has ended" in said
    assert "died" not in said
