"""The processes that train: one, several of a group under torchrun, or two with a training each.

Under `torchrun --nproc-per-node 2 …` every process runs the same program. Each computes what is
cheap; they share a network's steps (data parallel: S. Li et al., "PyTorch Distributed", VLDB 2020),
and the first writes checkpoints.
"""

import multiprocessing
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

T = TypeVar("T")


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
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network, forward_sync_buffers=False)

    def union(self, items: Tensor) -> Tensor:
        """The items of all processes, each once and ascending."""
        if self.size > 1:
            most = torch.tensor([len(items)], device=self.device)
            torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
            filled = torch.cat((items, items[:1].expand(int(most) - len(items))))
            all_items = [torch.empty_like(filled) for _ in range(self.size)]
            torch.distributed.all_gather(all_items, filled)
            items = torch.cat(all_items)
        each: Tensor = torch.unique(items)
        return each

    def gradient(self, values: Tensor) -> Tensor:
        """The gradient of `values`, averaged over the processes."""
        gradient = torch.zeros_like(values) if values.grad is None else values.grad
        if self.size > 1:
            torch.distributed.all_reduce(gradient)
            gradient /= self.size
        return gradient

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


class Pace:
    """The number of epochs that the training in the other process may do, as this one's goes on."""

    def __init__(self, context: SpawnContext) -> None:
        self._epochs, self._ended = context.Value("i", 0), context.Event()

    def allow(self, epochs: int) -> None:
        """Let the other training do so many epochs in all."""
        self._epochs.value = epochs

    def end(self) -> None:
        """Let the other training end after the epochs that it may do."""
        self._ended.set()

    def allows(self, epoch: int) -> bool:
        """Whether the epoch after `epoch` may begin. It waits until that is known."""
        while self._epochs.value <= epoch:
            if self._ended.wait(0.1):
                return bool(self._epochs.value > epoch)
        return True


_pace: Pace | None = None


def may_begin(epoch: int) -> bool:
    """Whether this process's training may go on after an epoch: always, but for a follower's."""
    return _pace is None or _pace.allows(epoch)


def side_by_side(trainings: Sequence[Callable[..., T]], **told: Callable[[Any], None]) -> list[T]:
    """The results of one or two trainings: the first here, the second in a process of its own.

    Where that process is killed, the second goes on here, from its checkpoint. With one processor,
    on a GPU and under torchrun, both are trained here, one after the other.

    Args:
        trainings: The trainings, functions that another process can be given.
        told: Arguments for the first training, which tell of its progress.
    """
    if not trainings:
        return []
    first, *others = trainings
    if not others or not _room_for_two():
        return [first(**told), *(training() for training in others)]
    with _aside() as pool:
        aside = pool.submit(others[0])
        fit = first(**told)
        try:
            return [fit, aside.result()]
        except BrokenProcessPool:
            warnings.warn(
                "the second network's process was killed: it is trained here", stacklevel=2
            )
            return [fit, others[0]()]


def followed(first: Callable[[Pace | None], T], follower: Callable[[], object]) -> T:
    """The result of a training, while another one follows it in a process of its own.

    The follower leaves its checkpoint, and no result. It is left out where there is no room for
    two, and nothing is lost where it fails or is killed.

    Args:
        first: The training, which sets the pace.
        follower: The other one. Its epochs wait for `may_begin`.
    """
    if not _room_for_two():
        return first(None)
    pace = Pace(multiprocessing.get_context("spawn"))
    with _aside(pace) as pool:
        aside = pool.submit(follower)
        try:
            return first(pace)
        finally:
            pace.end()
            aside.exception()  # waits; a fault of the data will be met again by whoever goes on


@contextmanager
def _aside(pace: Pace | None = None) -> Iterator[ProcessPoolExecutor]:
    """A process for one training; each of both computes in one thread."""
    context = multiprocessing.get_context("spawn")
    with _one_thread(), ProcessPoolExecutor(1, context, _begin_aside, (pace,)) as pool:
        yield pool


def _room_for_two() -> bool:
    one_group = "TORCHELASTIC_RUN_ID" in os.environ
    return (os.cpu_count() or 1) > 1 and not torch.cuda.is_available() and not one_group


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have torch compute in one thread during the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _begin_aside(pace: Pace | None) -> None:
    """Prepare the second process: one thread, and an end when the first one ends."""
    global _pace
    _pace = pace
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def end_with_it() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
