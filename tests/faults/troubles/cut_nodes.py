"""A node of a Redis Cluster loses its last writes alone, while all others keep theirs."""

from tests.faults.bed import Bed
from tests.faults.client import Client
from tests.faults.troubles.lost_writes import CutLog
from tests.servers import RedisKind

# Writers by strike: a writer that dies, too, can't repeat what the node has lost.
_CASES: dict[str, tuple[str, ...]] = {
    "a node, its log cut": (),
    "a node, its log cut, features killed": ("features",),
    "a node, its log cut, features 2 killed": ("features 2",),
}


class CutNode(CutLog):
    """Each node in turn is killed under full load, and the end of its append-only file that was not
    on the disk is cut off; two times in three, a features replica is killed at the same time.
    """

    # Three nodes and three cases, each with each.
    strikes = (*_CASES, *[*_CASES][1:], *[*_CASES][:1], *[*_CASES][2:], *[*_CASES][:2]) * 2
    redis = (RedisKind.CLUSTER,)

    def strike(self, name: str, bed: Bed, client: Client) -> None:
        self.cut(bed, *_CASES[name])
