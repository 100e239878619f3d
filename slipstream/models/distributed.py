"""The processes that train: one, several of a group under torchrun, or two with a training each.

In a group the first process has the work. The others hold no more than a network and its events,
which they get from the first, as every decision: they share a network's steps (data parallel: S. Li
et al., "PyTorch Distributed", VLDB 2020).
"""

import multiprocessing
import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from multiprocessing.context import SpawnContext
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

# The others wait while the first reads the lake, fits retrievers and judges epochs. Torch's half an
# hour is too short for that.
_PATIENCE: Final = timedelta(days=7)
# Seconds in which torchrun, or the cluster, ends a process that has lost another of its group.
_ENDED_WITHIN_S: Final = 60.0


@dataclass(frozen=True)
class ProcessGroup:
    """A group of `size` processes, of which this is number `rank`, and this one's device."""

    size: int
    rank: int
    device: torch.device

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the group, as `weighted` losses need.

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

    def weighted(self, loss: Tensor, weight: Tensor) -> Tensor:
        """A mean loss, scaled so that the processes' mean gradient is that of one mean over all.
        `loss` is the mean of this process's part of a batch, `weight` the sum of its weights.
        """
        if self.size == 1:
            return loss
        whole = weight.detach().clone()
        torch.distributed.all_reduce(whole)
        return loss * (weight.detach() * self.size / whole)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wait for the end before an error of the block: another process may have failed.

        The exit status of that one is to count, and not that of a connection to it.
        """
        try:
            yield
        except RuntimeError:
            if self.size > 1:
                time.sleep(_ENDED_WITHIN_S)
            raise

    def leave(self) -> None:
        """Break the connections to the others, which may wait for gradients."""
        if self.size > 1:
            torch.distributed.destroy_process_group()

    def share(self, value: Any = None) -> Any:
        """The first process's value, on all processes."""
        if self.size == 1:
            return value
        shared = [None if self.rank else value]
        torch.distributed.broadcast_object_list(shared, device=torch.device("cpu"))
        return shared[0]


@cache
def process_group() -> ProcessGroup:
    """This process's group: of all that torchrun has started, or of itself."""
    number = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", number) if torch.cuda.is_available() else torch.device("cpu")
    if not _in_group():
        return ProcessGroup(1, 0, device)
    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)  # or each process would also take memory of the first GPU
    torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    return ProcessGroup(torch.distributed.get_world_size(), torch.distributed.get_rank(), device)


@contextmanager
def led() -> Iterator[bool]:
    """Whether this process has the work; another one has by then assisted until the first's end."""
    if not _in_group():
        yield True
        return
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    group = process_group()
    if group.rank:
        with group.together():
            while (assisted := group.share()) is not None:
                part, arguments = assisted
                part(group, *arguments)
    yield not group.rank
    if torch.distributed.is_initialized():
        if not group.rank:
            group.share()
        torch.distributed.destroy_process_group()


def _end_with_parent(parent: int) -> None:
    """End this process once torchrun, which started it, was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def start_group(module: str, arguments: Sequence[str], processes: int) -> int:
    """Run a module in several processes, as torchrun does, and return an exit status.

    The processes of other machines join where torchrun's variables (PET_NNODES and so on) say so.
    The status is 0, that of the first process that failed, or 128 and a signal's number. The module
    calls `led`.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    options = [f"--nproc-per-node={processes}", "--module", module, *arguments]
    try:
        run(parse_args(options))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return status if status > 0 else 128 - status
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _in_group() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def quick_in_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices of bfloat16 faster than those of float32."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(
        capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16")
    )


class Pace:
    """The number of epochs that the training in the other process may keep, as this one goes on."""

    def __init__(self, context: SpawnContext) -> None:
        self._epochs, self._ended = context.Value("i", 0), context.Event()

    def allow(self, epochs: int) -> None:
        """Let the other training keep so many epochs in all."""
        self._epochs.value = epochs

    def end(self) -> None:
        """Let the other training end after the epochs that it may keep."""
        self._ended.set()

    def allows(self, epoch: int) -> bool:
        """Whether this epoch may be kept. It waits until that is known."""
        while self._epochs.value < epoch:
            if self._ended.wait(0.1):
                return bool(self._epochs.value >= epoch)
        return True


_pace: Pace | None = None


def may_keep(epoch: int) -> bool:
    """Whether this process's training may keep an epoch: always, but for a follower's."""
    return _pace is None or _pace.allows(epoch)


def side_by_side(trainings: Sequence[Callable[..., T]], **told: Callable[[Any], None]) -> list[T]:
    """The results of one or two trainings: the first here, the second in a process of its own.

    Where that process is killed, the second goes on here, from its checkpoint. With one processor,
    on a GPU and under torchrun, both are trained here, one after the other. Trainings are functions
    that another process can be given; `told` tells of the first one's progress.
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
    two, and nothing is lost where it fails or is killed. The first sets the pace, by which the
    follower asks `may_keep` after each epoch.
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


def _aside(pace: Pace | None = None) -> ProcessPoolExecutor:
    """A process for one training."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, _begin_aside, (pace,))


def _room_for_two() -> bool:
    return (os.cpu_count() or 1) > 1 and not torch.cuda.is_available() and not _in_group()


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute in one thread during the block.

    In steps as small as these, a second thread costs more than it saves
    (docs/measurements/training.md).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _begin_aside(pace: Pace | None) -> None:
    """Prepare the second process: its pace, and an end when the first one ends."""
    global _pace
    _pace = pace
    parent = multiprocessing.parent_process()

    def end_with_it() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
