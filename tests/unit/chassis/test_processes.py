"""Processes of a service on one port, their parent, and its other children."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.readiness import is_ready

PROGRAM = """
import os, subprocess, sys
from slipstream.chassis.processes import serve_in_processes
from slipstream.chassis.settings import ServiceSettings
from tests.unit.chassis.test_app import an_app

loaded_by = []

def an_app_with_what_its_parent_has_loaded():
    assert loaded_by == [os.getppid()]
    return an_app()

# It ends unawaited, as an orphan does that the first process of a container adopts.
child = subprocess.Popen(["true"])
settings = ServiceSettings(http={"port": int(sys.argv[1])})
serve_in_processes(
    an_app_with_what_its_parent_has_loaded,
    settings,
    "serving",
    2,
    lambda: loaded_by.append(os.getpid()),
)
"""

ORPHANED = """
import os, signal, sys, time
from slipstream.chassis.processes import serve_in_processes
from slipstream.chassis.settings import ServiceSettings
from tests.unit.chassis.test_app import an_app

def an_app_without_a_parent():
    parent = os.getppid()
    os.kill(parent, signal.SIGKILL)
    while os.getppid() == parent:
        time.sleep(0.01)
    return an_app()

settings = ServiceSettings(http={"port": int(sys.argv[1])})
serve_in_processes(an_app_without_a_parent, settings, "serving", 1)
"""


def test_a_child_that_serves_nothing_may_end() -> None:
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, str(port)]
    child = Child("probe", port, command, is_ready, grace_s=20.0).start(timeout_s=60)
    assert child.process is not None
    pid = child.process.pid
    workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    child.terminate()
    assert child.finish()
    assert (child.status, len(workers)) == (0, 2)


def test_a_process_whose_parent_is_killed_while_it_starts_ends_too() -> None:
    command = [sys.executable, "-c", ORPHANED, str(free_port())]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        # Its output ends with the last process that holds it.
        output, _ = parent.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(parent.pid, signal.SIGKILL)
        raise
    assert parent.returncode == -signal.SIGKILL
    assert b"the process that started this one is gone" in output
