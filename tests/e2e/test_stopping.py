"""Ctrl-C, whenever it comes, leaves nothing running, and nothing that was accepted behind."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream_cli.local.processes import free_port
from tests.e2e.shop import history
from tests.e2e.stack import alive, children, launched, running, wait_for
from tests.servers import Outside, Servers, outside


@pytest.fixture
def found(servers: Servers, tmp_path: Path) -> Iterator[Outside]:
    with outside(servers, tmp_path / "servers") as made:
        yield made


def test_ctrl_c_on_a_running_stack_stops_everything_once_what_was_accepted_is_in_the_lake(
    tmp_path: Path, found: Outside
) -> None:
    with running(tmp_path, found) as stack:
        before = list(stack.children.values())
        assert len({*before, *found.pids.values()}) >= 7
        events = history()
        parts = [events[start : start + 500] for start in range(0, len(events), 500)]
        accepted = sum(
            stack.post("ingestion", "/v1/import", {"batch": part})["accepted"] for part in parts
        )
        assert stack.stop(signal.SIGINT) == 0
        wait_for(lambda: not alive(before), "what the kernel ends with the supervisor to be gone")
        assert "were not applied" not in (tmp_path / "up.log").read_text()
    assert accepted == len(events) > 2_000
    assert (
        Lake(LakeSettings(uri=str(tmp_path / "lake")), "slipstream").count(INTERACTIONS) == accepted
    )


def test_ctrl_c_while_the_stack_starts_stops_what_has_started(
    tmp_path: Path, found: Outside
) -> None:
    # Without its database it is never ready, however late the signal is sent.
    nowhere = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nowhere"
    with launched(tmp_path, found, SLIPSTREAM_DATABASE__URL=nowhere) as (process, output):
        wait_for(lambda: "waiting for" in output.read_text(), "the services to be on their way")
        before = [pid for _, pid in children(process.pid)]
        assert len({*before, *found.pids.values()}) >= 7
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        wait_for(lambda: not alive(before), "what the kernel ends with the supervisor to be gone")
