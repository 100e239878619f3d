"""Devices that torch sees in this process."""

import torch


def gpu_names() -> list[str]:
    """Names of the GPUs that torch sees; empty without any."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
