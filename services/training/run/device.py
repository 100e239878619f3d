"""Device that a run's network is trained on, as the settings name it."""

import os
from typing import Literal

from slipstream.chassis.logging import get_logger
from slipstream.models.device import gpu_names, lack_of_gpu

log = get_logger(__name__)


class DeviceError(Exception):
    """The settings name a device that torch can't see; the text says what to do."""


def choose_device(name: Literal["auto", "cpu", "gpu"], processes: int = 1) -> None:
    """Have this process compute on the device, before it has used any.

    `auto` is a GPU where torch sees one, else the CPU, with a warning. Raises DeviceError where a
    GPU is demanded, and torch sees none, or fewer than processes.
    """
    if name == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif lack := lack_of_gpu():
        if name == "gpu":
            raise DeviceError(
                f"SLIPSTREAM_TRAINING__DEVICE=gpu, and {lack}: it needs a machine with an NVIDIA "
                "GPU, and torch built for it (in images: TORCH_INDEX_URL, see the Dockerfile)"
            )
        log.warning("the run computes on the CPU", reason=lack)
    elif processes > 1 and (seen := len(gpu_names())) < processes:
        raise DeviceError(
            f"SLIPSTREAM_TRAINING__PROCESSES={processes}, and torch sees {seen} GPUs: each process "
            "needs one"
        )
