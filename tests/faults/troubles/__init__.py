"""The troubles, by the names that `make faults` knows them by."""

from collections.abc import Mapping
from typing import Final

from tests.faults.trouble import Trouble
from tests.faults.troubles.clocks import Clocks
from tests.faults.troubles.cut_nodes import CutNode
from tests.faults.troubles.disks import Disks
from tests.faults.troubles.erasures import Erasures
from tests.faults.troubles.failover import Failover
from tests.faults.troubles.frozen import Frozen
from tests.faults.troubles.lost_writes import CutLog
from tests.faults.troubles.networks import Networks
from tests.faults.troubles.versions import Versions

TROUBLES: Final[Mapping[str, type[Trouble]]] = {
    "frozen": Frozen,
    "cut-log": CutLog,
    "cut-node": CutNode,
    "failover": Failover,
    "disks": Disks,
    "clocks": Clocks,
    "erasures": Erasures,
    "networks": Networks,
    "versions": Versions,
}
