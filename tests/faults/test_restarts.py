"""A few restarts of each service; `make restarts` does more of them."""

from pathlib import Path

import pytest

from tests.faults.restarts import Case, run
from tests.servers import Servers


@pytest.mark.timeout(900)
@pytest.mark.servers("real")  # the embedded broker has no sessions to speak of, and starts empty
def test_services_that_were_killed_read_again(servers: Servers, tmp_path: Path) -> None:
    result = run(Case(plain=2, held=1, limit_s=60), tmp_path, servers)
    assert not result.faults, result.table()
