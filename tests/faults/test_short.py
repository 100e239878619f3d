"""The fault test, at its shortest: it kills everything once. `make faults` is the long one."""

from pathlib import Path

import pytest

from slipstream.contracts.services import SERVICES
from tests.faults.case import Case
from tests.faults.replicas import SEVERAL
from tests.faults.run import run
from tests.servers import Servers


@pytest.mark.timeout(900)
@pytest.mark.servers("real")  # on the embedded ones: make faults
def test_every_acknowledged_event_counts_once_when_each_process_and_each_server_is_killed(
    tmp_path: Path, servers: Servers
) -> None:
    killed = (*SERVICES, "redis", "postgresql", "broker")
    case = Case(seconds=20, kills=dict.fromkeys(killed, 1), rate=150, replicas=SEVERAL)
    result = run(case, tmp_path, servers)
    assert result.faults == [], result.table()
