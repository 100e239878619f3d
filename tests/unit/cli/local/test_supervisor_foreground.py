"""Signals, as they reach a command that runs a stack. Each in a process of its own: they are
handled once a process.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipstream_cli.local.processes import INTERRUPTED

# A stack with a supervisor that takes a second to stop, as a real one does that drains.
COMMAND = """
import os, signal, sys, time
from pathlib import Path
from slipstream_cli.local import supervisor
from slipstream_cli.local.plan import make_plan
from slipstream_cli.local.supervisor import ForegroundStack
from slipstream_cli.local.terminal import Terminal

class Slow(supervisor.Supervisor):
    def _start_all(self):
        pass
    def _stop_all(self):
        time.sleep(1.0)
        print("stopped in order", flush=True)
    def wait(self, timeout_s=None):
        print("waiting", flush=True)
        super().wait(timeout_s)

supervisor.Supervisor = Slow
plan = make_plan(Path(sys.argv[1]), {}, any_ports=True)
with ForegroundStack(plan, Terminal(), endless="endless" in sys.argv) as stack:
    stack.start()
    if "early" in sys.argv:
        os.kill(os.getpid(), signal.SIGTERM)
    print("running", flush=True)
    stack.wait()
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_until_the_stack_has_stopped_in_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        # Tests that run under nohup hand on that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL) and None,
    ) as process:
        assert process.stdout and process.stdout.readline() == "running\n"
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        assert process.stdout.read() == "stopped in order\nended\n"
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("options", "status", "printed"),
    [([], INTERRUPTED, ""), (["endless"], 0, "ended\n")],
    ids=["work to do", "endless"],
)
def test_a_signal_before_the_wait_is_a_failure_where_there_is_work_to_do(
    tmp_path: Path, options: list[str], status: int, printed: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, str(tmp_path), "early", *options],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (status, f"stopped in order\n{printed}")


def test_a_stack_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None}
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        **ignoring,
    ) as process:
        assert process.stdout and process.stdout.readline() == "running\n"
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(1.5)  # longer than its stop takes
        assert process.poll() is None
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout.read() == "stopped in order\nended\n"
