"""The fault test, at its shortest: it kills everything once. `make faults` is the long one."""

from pathlib import Path

import pytest

from slipstream.contracts.services import SERVICES
from tests.faults.run import Case, run
from tests.servers import Servers


@pytest.mark.servers("real")  # on the embedded ones: make faults
def test_every_acknowledged_event_counts_once_when_each_service_and_its_servers_are_killed(
    tmp_path: Path, servers: Servers
) -> None:
    brokers = (
        ("broker",) if servers.kind == "real" else ()
    )  # the embedded one forgets what it acknowledged
    result = run(
        Case(seconds=10, times=1, killed=(*SERVICES, "redis", *brokers), rate=150),
        tmp_path,
        servers,
    )
    assert result.faults == [], result.table()
