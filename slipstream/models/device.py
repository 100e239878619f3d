"""Device that torch computes on in this process: a GPU where it sees one."""

import torch


def lack_of_gpu() -> str:
    """Why torch can't compute on a GPU here; empty where it can."""
    if torch.cuda.is_available():
        return ""
    lack = "sees no GPU here" if torch.version.cuda else "is built without CUDA"
    return f"torch {torch.__version__} {lack}"


def gpu_names() -> list[str]:
    """Names of the GPUs that torch sees; empty without any."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def device_name() -> str:
    """Name of the first GPU, or `cpu`."""
    return next(iter(gpu_names()), "cpu")
