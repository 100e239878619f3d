"""Device that torch computes on in this process: a GPU where it sees one."""

import torch


def lack_of_gpu() -> str:
    """Why torch can't compute on a GPU here; empty where it can."""
    if torch.cuda.is_available():
        return ""
    lack = "sees no GPU here" if torch.version.cuda else "is built without CUDA"
    return f"torch {torch.__version__} {lack}"


def device_name() -> str:
    """Name of the GPU, or `cpu`."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
