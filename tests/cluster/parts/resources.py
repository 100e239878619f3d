"""Part 6: what the pods used over all parts, compared with their requests and limits."""

from tests.cluster.bed import Bed
from tests.cluster.report import Part
from tests.cluster.usage import Usage

TITLE = "6 Requests and limits that the pods stay under"
MIB = 2**20


def judge(bed: Bed, part: Part, usage: Usage) -> None:
    """No pod may use more memory than it asks for, nor be killed for it. Processor is only shown:
    a pod may use what others leave.
    """
    part.tell("samples of the metrics API", f"{usage.samples}")
    for app, peak in sorted(usage.peaks.items()):
        part.tell(
            app,
            f"memory {peak.memory // MIB} MiB at most, asks {peak.requests['memory'] // MIB}, "
            f"limit {peak.limits['memory'] // MIB}; cpu {peak.cpu_mean:.0f} m, {peak.cpu} m at "
            f"most, asks {peak.requests['cpu']}, limit {peak.limits['cpu']}",
        )
        part.demand(peak.samples > 0, f"{app} was never measured")
        part.demand(
            peak.memory <= peak.requests["memory"],
            f"{app} used {peak.memory // MIB} MiB and asks for {peak.requests['memory'] // MIB}",
        )
    part.tell("killed for memory", ", ".join(sorted(usage.killed_for_memory)) or "none")
    part.demand(not usage.killed_for_memory, f"killed for memory: {usage.killed_for_memory}")
