"""Ctrl-C, whenever it comes, leaves nothing running, and nothing that was accepted behind."""

import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream_cli.dead_letters import KEPT_FILE
from slipstream_cli.local.processes import free_port
from tests.e2e import first_hour
from tests.e2e.shop import history
from tests.e2e.stack import Stack, alive, children, launched, running, wait_for
from tests.servers import Outside, Servers, outside


@pytest.fixture
def found(servers: Servers, tmp_path: Path) -> Iterator[Outside]:
    with outside(servers, tmp_path / "servers") as made:
        yield made


@pytest.fixture(scope="module")
def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with (
        outside(servers, tmp_path_factory.mktemp("servers")) as found,
        running(tmp_path_factory.mktemp("slipstream"), found) as stack,
    ):
        yield stack


@pytest.mark.servers("real")  # it trains a model
def test_the_first_hour_goes_as_the_page_says(stack: Stack, tmp_path: Path) -> None:
    assert first_hour.untrue(stack.directory, stack.urls, tmp_path) == []


def test_ctrl_c_on_a_running_stack_stops_everything_once_what_was_accepted_is_in_the_lake(
    stack: Stack, servers: Servers
) -> None:
    lake = Lake(LakeSettings(uri=str(stack.directory / "lake")), "slipstream")
    wait_for(lambda: stack.get("features", "/v1/status")["caught_up"], "features to catch up")
    there = lake.count(INTERACTIONS)
    before = list(stack.children.values())
    assert len({*before, *stack.outside.pids.values()}) >= 7
    events = history()
    parts = [events[start : start + 500] for start in range(0, len(events), 500)]
    accepted = sum(
        stack.post("ingestion", "/v1/import", {"batch": part})["accepted"] for part in parts
    )
    assert stack.post("ingestion", "/v1/batch", {"batch": [{"type": "page"}]})["rejected"] == 1
    assert stack.stop(signal.SIGINT) == 0
    wait_for(lambda: not alive(before), "what the kernel ends with the supervisor to be gone")
    assert "were not applied" not in (stack.directory / "up.log").read_text()
    assert accepted == len(events) > 2_000
    assert lake.count(INTERACTIONS) == there + accepted
    if servers.kind == "embedded":  # whose files are among the stack's
        _assert_its_user_s_alone(stack.directory)
        assert '"missing_user"' in (stack.directory / KEPT_FILE).read_text()


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


def _assert_its_user_s_alone(folder: Path) -> None:
    kept = [path for path in folder.rglob("*") if path.name != "up.log"]
    assert {path.suffix for path in kept} >= {".db", ".log", ".parquet"}
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *kept)}
    wrong = {path: mode for path, mode in modes.items() if mode != (0o600, 0o700)[path.is_dir()]}
    assert wrong == {}
