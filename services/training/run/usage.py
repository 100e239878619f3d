"""Time that a run's process uses in each step, measured in the process itself."""

import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slipstream.contracts.steps import STEP_OF_STAGE, StepUsage
from slipstream.contracts.times import now_ms
from slipstream.models.device import gpu_names


class Meter:
    """Measures this process, from its start on.

    Args:
        earlier: What earlier starts of the run have used, as `usage` gave it.
    """

    def __init__(self, earlier: Sequence[dict[str, Any]] = ()) -> None:
        self._device = next(iter(gpu_names()), "cpu")
        self._past = [StepUsage.model_validate(start) for start in earlier]
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
        return [usage.model_dump() for usage in (*self._past, *self._mine.values())]

    def _count(self) -> None:
        now, used = now_ms(), _processor_s()
        mine = self._mine.setdefault(
            self._step,
            StepUsage(
                step=self._step,
                start=self._start,
                began_at=self._at,
                ended_at=now,
                device=self._device,
            ),
        )
        mine.ended_at = now
        mine.processor_s = round(mine.processor_s + used - self._processor_s, 3)
        self._at, self._processor_s = now, used


def _processor_s() -> float:
    """Seconds of processors of this process, and of its children that have ended."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _age_s() -> float:
    """Seconds since this process started, with the import of its modules; 0 where unknown."""
    try:
        ticks = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
