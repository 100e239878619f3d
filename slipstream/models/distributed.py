"""The group of processes that train together: one, or several under torchrun.

Under `torchrun --nproc-per-node 2 …` every process runs the same program. Each computes what is
cheap; they share a network's steps (data parallel: S. Li et al., "PyTorch Distributed", VLDB 2020),
and the first writes checkpoints.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous


@dataclass(frozen=True)
class ProcessGroup:
    """A group of `size` processes, of which this is number `rank`, and this one's device."""

    size: int
    rank: int
    device: torch.device

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the group.

        It is compiled where there are a GPU and the C compiler that Triton needs.
        """
        if self.device.type == "cuda" and shutil.which(os.environ.get("CC", "cc")):
            network.compile(dynamic=True)
        return nn.parallel.DistributedDataParallel(network) if self.size > 1 else network

    def of_first(self, answer: Callable[[], float]) -> float:
        """The first process's answer, on all processes.

        Sums may differ in the last bit between processes. Two would then stop at different epochs,
        and one would wait for the other's gradients.
        """
        if self.size == 1:
            return answer()
        found = torch.tensor(
            [0.0 if self.rank else answer()], dtype=torch.float64, device=self.device
        )
        torch.distributed.broadcast(found, src=0)
        return float(found)


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """This process's group, for the length of the block.

    A process that leaves the block waits for the others, since ending would close connections that
    they still read. One that fails does not wait, so that torchrun sees it at once.
    """
    number = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", number) if torch.cuda.is_available() else torch.device("cpu")
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ProcessGroup(1, 0, device)
        return
    store, rank, size = next(rendezvous("env://"))
    meeting = _meet(store, size)
    own = PrefixStore(f"group {meeting}", store)
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", store=own, rank=rank, world_size=size
    )
    yield ProcessGroup(size, rank, device)
    _meet(store, size)
    torch.distributed.destroy_process_group()


def _meet(store: Store, size: int) -> int:
    """Wait until all processes are here, and return the number of such meetings so far.

    The store is torchrun's own and outlives the processes.
    """
    arrived = store.add("arrived", 1)
    meeting = -(-arrived // size)
    if arrived == meeting * size:
        store.set(f"met {meeting}", "")
    store.wait([f"met {meeting}"])
    return meeting


def quick_in_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices of bfloat16 faster than those of float32."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(
        capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16")
    )
