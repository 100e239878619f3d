"""Resources that a run's process uses in each step, measured in the process itself.

A pod's environment says what it reserves, since that is what a cluster charges: `RUN_MILLICORES`
and `RUN_MEMORY_MIB`. Without them the time of processors is counted, and the memory at each look.
"""

import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from slipstream.contracts.steps import STEP_OF_STAGE, StepUsage
from slipstream.contracts.times import now_ms
from slipstream.models.device import gpu_names
from slipstream.recommender.memory import peak_memory_mb

_MIB: Final = 2**20


class Meter:
    """Measures this process, from its start on.

    Args:
        earlier: What earlier starts of the run have used, as `usage` gave it.
    """

    def __init__(self, earlier: Sequence[dict[str, Any]] = ()) -> None:
        cores, memory = (os.environ.get(f"RUN_{name}") for name in ("MILLICORES", "MEMORY_MIB"))
        self._cores = int(cores) / 1000 if cores else None
        self._memory_gb = int(memory) * _MIB / 1e9 if memory else None
        self._gpus = gpu_names()
        self._past = [StepUsage.model_validate(each) for each in earlier]
        self._start = now_ms() - int(1000 * _age_s())
        self._at, self._processor_s = self._start, 0.0
        self._mine: dict[str, StepUsage] = {}
        self._step = STEP_OF_STAGE["starting"]

    def at(self, stage: str) -> None:
        """Count what was used since the last call, and go on with the stage's step."""
        self._count()
        self._step = STEP_OF_STAGE.get(stage, self._step)

    def usage(self) -> list[dict[str, Any]]:
        """The usage of all starts so far, by start and step, as `StepUsage` has it."""
        self._count()
        return [each.model_dump() for each in (*self._past, *self._mine.values())]

    def _count(self) -> None:
        now, used = now_ms(), _processor_s()
        took_s = max(0, now - self._at) / 1000
        mine = self._mine.setdefault(
            self._step,
            StepUsage(
                step=self._step,
                start=self._start,
                began_at=self._at,
                ended_at=now,
                device=self._gpus[0] if self._gpus else "cpu",
            ),
        )
        mine.ended_at = now
        processor_s = used - self._processor_s if self._cores is None else took_s * self._cores
        memory_gb = _memory_gb() if self._memory_gb is None else self._memory_gb
        mine.processor_s = round(mine.processor_s + processor_s, 3)
        mine.memory_gb_s = round(mine.memory_gb_s + took_s * memory_gb, 3)
        mine.gpu_s = round(mine.gpu_s + took_s * len(self._gpus), 3)
        self._at, self._processor_s = now, used


def _processor_s() -> float:
    """Seconds of processors of this process, and of its children that have ended."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _memory_gb() -> float:
    """Resident memory now; the most so far where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_memory_mb() * _MIB / 1e9
    return pages * resource.getpagesize() / 1e9


def _age_s() -> float:
    """Seconds since this process started, with the import of its modules; 0 where unknown."""
    try:
        ticks = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
