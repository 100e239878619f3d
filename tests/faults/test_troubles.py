"""Each trouble at its shortest: its first strike. `make faults FAULTS_ARGS="--trouble …"` is the
long one.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.case import Case
from tests.faults.replicas import SEVERAL
from tests.faults.run import run
from tests.faults.troubles import TROUBLES
from tests.faults.troubles.networks import Networks
from tests.servers import RedisKind, Servers

pytestmark = [pytest.mark.servers("real"), pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    "trouble", ["frozen", "cut-log", "failover", "disks", "clocks", "erasures", "versions"]
)
def test_every_acknowledged_event_counts_once_after_a_trouble(
    trouble: str, tmp_path: Path, servers: Servers
) -> None:
    if lacking := TROUBLES[trouble]().lacking():
        pytest.skip(lacking)
    case = Case(10, {}, rate=150, replicas=SEVERAL, trouble=trouble, strikes=1)
    result = run(case, tmp_path, servers)
    assert result.faults == [], result.table()


def test_every_acknowledged_event_counts_once_after_one_node_of_a_cluster_lost_its_end(
    tmp_path: Path, servers: Servers
) -> None:
    case = Case(
        10,
        {},
        rate=30,
        replicas=SEVERAL,
        trouble="cut-node",
        strikes=2,
        redis=RedisKind.CLUSTER,
    )
    result = run(case, tmp_path, servers)
    assert result.faults == [], result.table()


def test_every_acknowledged_event_counts_once_after_features_was_cut_off() -> None:
    if lacking := Networks().lacking():
        pytest.skip(lacking)
    command = [sys.executable, "-m", "tests.faults", "--trouble", "networks"]
    options = ["--strikes", "1", "--seconds", "10", "--rate", "150"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
