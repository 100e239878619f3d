"""A stack that is stopped while it starts, and the first hour with one, as its page tells it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipstream_cli.local.processes import free_port
from tests.e2e import first_hour
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
