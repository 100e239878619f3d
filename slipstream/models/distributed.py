"""One process, or several under torchrun: where this one computes, and which part of the data is its own.

Under `torchrun --nproc-per-node 2 …` every process runs the same program. What is cheap is computed by each; a network's steps
are shared (data parallel: S. Li et al., "PyTorch Distributed", VLDB 2020), and checkpoints are written by the first.
"""

import os
import shutil
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Group:
    """`size` processes, of which this is number `rank`, and the device that it computes on."""

    size: int
    rank: int
    device: torch.device

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, its gradients averaged over the group where there is one; compiled where there are a GPU and a C compiler,
        which Triton needs."""
        if self.device.type == "cuda" and shutil.which(os.environ.get("CC", "cc")):
            network.compile(dynamic=True)
        return nn.parallel.DistributedDataParallel(network) if self.size > 1 else network


def join() -> Group:
    """This process's group, which it joins on the first call."""
    number = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", number) if torch.cuda.is_available() else torch.device("cpu")
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Group(1, 0, device)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Group(torch.distributed.get_world_size(), torch.distributed.get_rank(), device)


def quick_in_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices of bfloat16 faster than those of float32."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
