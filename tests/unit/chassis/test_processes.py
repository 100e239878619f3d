"""Processes of a service on one port, and other children of their parent."""

import sys
from pathlib import Path

from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.readiness import is_ready

PROGRAM = """
import subprocess, sys
from slipstream.chassis.processes import serve_in_processes
from slipstream.chassis.settings import ServiceSettings
from tests.unit.chassis.test_app import an_app

# It ends while nobody waits for it, as an orphan does that the first process of a container adopts.
child = subprocess.Popen(["true"])
settings = ServiceSettings(http={"port": int(sys.argv[1])})
serve_in_processes(an_app, settings, "serving", 2)
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
