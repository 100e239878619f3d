"""Ctrl-C, whenever it comes, leaves nothing running."""

import signal
from pathlib import Path

import pytest

from tests.e2e.stack import alive, children, launched, running, wait_for

pytestmark = pytest.mark.timeout(240)


def test_ctrl_c_on_a_running_stack_stops_everything_and_is_no_failure(tmp_path: Path) -> None:
    with running(tmp_path) as stack:
        before = list(stack.children.values())
        assert len(before) >= 7
        assert stack.stop(signal.SIGINT) == 0
        wait_for(lambda: not alive(before), "what the kernel ends with the supervisor to be gone", 3)


def test_ctrl_c_while_the_stack_starts_stops_what_has_started(tmp_path: Path) -> None:
    with launched(tmp_path) as (process, output):
        wait_for(lambda: "waiting for" in output.read_text(), "the services to be on their way")
        before = [pid for _, pid in children(process.pid)]
        assert len(before) >= 7
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        wait_for(lambda: not alive(before), "what the kernel ends with the supervisor to be gone", 3)
