"""Prices of a cloud, by which a training run is costed."""

from dataclasses import dataclass
from typing import Final

HOUR_S: Final = 3_600


@dataclass(frozen=True)
class Prices:
    """Prices of a cloud, in dollars; `gpu_hour` is that of a GPU with 24 GB."""

    core_hour: float = 0.04
    gb_hour: float = 0.005
    gpu_hour: float = 0.70

    def of(self, processor_s: float, memory_gb_s: float, gpu_s: float) -> float:
        """Dollars for seconds of processors, of gigabytes of memory and of GPUs."""
        hours = (processor_s * self.core_hour, memory_gb_s * self.gb_hour, gpu_s * self.gpu_hour)
        return sum(hours) / HOUR_S
