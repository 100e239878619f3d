import sys
import time
from pathlib import Path

import pytest

from bench.measurements import BenchmarkError
from bench.scaling import processor_s, run
from slipstream_cli.local.plan import EXTERNAL, make_plan
from slipstream_cli.local.processes import Child
from slipstream_cli.local.terminal import Terminal


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_s_time_is_that_of_the_processor_alone() -> None:
    program = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(600)"
    child = Child("worker", 0, [sys.executable, "-c", program], lambda _: True, grace_s=1.0)
    child.launch()
    try:
        deadline = time.monotonic() + 60
        while processor_s(child) < 0.25 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert processor_s(child) == pytest.approx(0.3, abs=0.1)
    finally:
        child.stop()


def test_servers_that_run_elsewhere_are_not_measured(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {EXTERNAL["valkey"]: "redis://127.0.0.1:1/0"}, any_ports=True)
    with pytest.raises(BenchmarkError, match="embedded"):
        run(plan, Terminal())
