"""What the parts of the demo share: the cluster, its services, and what was sent to them."""

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipstream.chassis.settings import LakeSettings
from slipstream.datasets.interactions import read_interactions
from slipstream.datasets.simulator import SimulatedFiles
from slipstream.stores.lake import Lake
from tests.cluster.forwarding import Forwards
from tests.cluster.kubectl import NAMESPACE, Kubectl, wait_until
from tests.cluster.load.pods import SentEvents
from tests.cluster.report import Part
from tests.compose.comparison import Accepted, compare_counts, compare_lake
from tests.e2e.stack import wait_for
from tests.faults.reckoning import Findings
from tests.faults.traffic import Sent

CATCH_UP_LIMIT_S, ANSWER_LIMIT_S = 120.0, 30.0
# Python writes the lake's files as an archive, since not every image has tar.
ARCHIVE = (
    "import sys, tarfile; "
    "tarfile.open(fileobj=sys.stdout.buffer, mode='w|').add('/data/lake', 'lake')"
)


@dataclass
class Bed:
    """A cluster with the overlay. `tag` and `before` are those of the images of this version and of
    the one before it.
    """

    kubectl: Kubectl
    services: Forwards
    folder: Path
    files: SimulatedFiles
    tag: str
    before: str
    # of the parts under load: events a second
    rate: float = 300.0
    # of the part `zero`
    wakes: int = 3
    acknowledged: list[Sent] = field(default_factory=list)
    unacknowledged: list[Sent] = field(default_factory=list)

    def features(self, view: str, name: str) -> dict[str, Any]:
        """The state of a visitor or an item, as features tells it."""
        found: dict[str, Any] = self.services.get("features", f"/v1/features/{view}/{name}")
        return found

    def champion(self) -> str:
        """The version of the model that is champion."""
        return str(self.services.get("training", "/v1/aliases/champion")["version"])

    def wait_caught_up(self) -> None:
        wait_until(
            lambda: self.services.get("features", "/v1/status")["caught_up"],
            "features to catch up",
            CATCH_UP_LIMIT_S,
        )

    def take(self, part: Part, sent: SentEvents) -> None:
        """Count what a load had accepted; it must have no message refused."""
        self.acknowledged += sent.acknowledged
        self.unacknowledged += sent.unacknowledged
        events = sum(len(one.events) for one in sent.acknowledged)
        seconds = max(1, sent.figures["seconds"])
        part.tell("events accepted", f"{events:,} in {seconds} s, {events / seconds:.0f}/s")
        part.demand(not sent.rejected, f"messages rejected: {sent.rejected[:3]}")
        part.demand(not sent.unacknowledged, f"{len(sent.unacknowledged)} messages unanswered")

    def compare(self, part: Part) -> None:
        """Compare the lake and the counts in Redis with all that was accepted until now."""
        self.wait_caught_up()
        history = read_interactions(self.files.interactions)
        accepted = Accepted(history, self.acknowledged, self.unacknowledged)
        found = Findings()
        compare_lake(found, self.lake(), accepted)
        compare_counts(found, self._counts, accepted)
        lost, twice = (len(found.wrong.get(kind, ())) for kind in ("lost", "double"))
        figures = found.figures
        part.tell("rows in the lake", f"{figures['rows_in_lake']:,}")
        part.tell(
            "counts compared in Redis",
            f"{figures['visitors_compared']:,} visitors, {figures['items_compared']:,} items",
        )
        part.tell("lost, twice", f"{lost}, {twice}")
        for line in found.lines():
            part.demand(False, line)

    def _counts(self, view: str, name: str) -> dict[str, int]:
        """Counts by type, requested again while features is busy or its pod is another."""
        return wait_for(
            lambda: dict(self.features(view, name)["counts"]), f"{view} {name}", ANSWER_LIMIT_S
        )

    def lake(self) -> Lake:
        """A copy of the lake, as it is now."""
        return Lake(LakeSettings(uri=str(self.lake_folder())), NAMESPACE)

    def lake_folder(self) -> Path:
        """The folder of a copy. Features only adds to the lake, and its log comes first."""
        (pod, *_) = self.kubectl.of("features")
        packed = self.kubectl.execute(pod.name, "python", "-c", ARCHIVE)
        place = self.folder / f"lake-{len(list(self.folder.glob('lake-*')))}"
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(place, filter="data")
        return place / "lake"
