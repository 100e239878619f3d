"""`make gpu-check`: training on a GPU compared with two threads of this machine's processors.

It times an epoch of `best`'s network, and judges the lists of whole fits. Where there are two GPUs,
two processes train one network, by NCCL. Where torch sees no GPU, it says so and ends.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import torch

from bench.load import in_own_process
from bench.training import network_of, simulated
from slipstream.models.device import gpu_names, lack_of_gpu
from slipstream.recommender.evaluate import evaluate

LEAST_FASTER: Final = 10.0
MOST_APART: Final = 0.02
PROFILE: Final = "best"
THREADS: Final = 2
SEED: Final = 0
# Share of the epoch that is timed on processors, where a whole one takes an hour.
SHARE: Final = 0.05


class Verdict(NamedTuple):
    """One comparison, as it is shown."""

    name: str
    seen: str
    holds: bool


class _EnoughError(Exception):
    """Enough of an epoch is timed."""


@click.command()
@click.option(
    "--events",
    type=click.IntRange(1_000_000),
    default=10_000_000,
    show_default=True,
    help="Events of the timed epoch.",
)
@click.option("--judged", default=1_000_000, show_default=True, help="Events of the fits judged.")
@click.option("--items", default=100_000, show_default=True, help="Items of both shops.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps the simulated shops. Default: a temporary one.",
)
def main(events: int, judged: int, items: int, folder: Path | None) -> None:
    """Compare a GPU with two threads of the processors, and end with 1 where it falls short.

    An epoch must be ten times as fast, and NDCG@10 within 2 %; with two GPUs that of two processes,
    too. Without a GPU it is skipped. It takes hours, most of them for the fit on the processors.
    """
    if lack := lack_of_gpu():
        click.echo(f"skipped: {lack}")
        return
    click.echo(f"{', '.join(gpu_names())}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as temporary:
        large, small = (
            (folder or Path(temporary)) / f"shop-{size}-{items}" for size in (events, judged)
        )
        for shop, size in ((large, events), (small, judged)):
            in_own_process(simulated, shop, size, items, SEED)
        gpu_s, cpu_s = (
            in_own_process(_on, device, epoch_seconds, large, share)
            for device, share in (("gpu", 1.0), ("cpu", SHARE))
        )
        gpu_ndcg, cpu_ndcg = (in_own_process(_on, it, _ndcg, small) for it in ("gpu", "cpu"))
        together = _ndcg_of_two(small) if len(gpu_names()) > 1 else None
    found = verdicts(gpu_s, cpu_s, gpu_ndcg, cpu_ndcg, together)
    for each in found:
        click.echo(f"{each.name:<44} {each.seen}{'' if each.holds else ', NOT AS IT MUST BE'}")
    if together is None:
        click.echo("two processes by NCCL: skipped, there is one GPU")
    if not all(each.holds for each in found):
        sys.exit(1)


def verdicts(
    gpu_s: float, cpu_s: float, gpu_ndcg: float, cpu_ndcg: float, together: float | None
) -> list[Verdict]:
    """Compare the seconds of an epoch, and NDCG@10 after whole fits.

    Args:
        gpu_ndcg: NDCG@10 after a fit on the GPU.
        cpu_ndcg: NDCG@10 after one on the processors.
        together: NDCG@10 after a fit in two processes with a GPU each; None without.
    """
    faster = cpu_s / gpu_s
    times = f"{gpu_s:,.0f} s compared with {cpu_s:,.0f} s: {faster:.1f} times as fast"
    found = [Verdict("an epoch", times, faster >= LEAST_FASTER)]
    for name, gain, other in (
        ("NDCG@10, a GPU and the processors", gpu_ndcg, cpu_ndcg),
        ("NDCG@10, two GPUs by NCCL and one", together, gpu_ndcg),
    ):
        if gain is not None:
            apart = gain / other - 1
            seen = f"{gain:.4f} and {other:.4f}, {apart:+.1%}"
            found.append(Verdict(name, seen, abs(apart) <= MOST_APART))
    return found


def epoch_seconds(made: Path, share: float) -> float:
    """Seconds of an epoch on a shop's files, by a share of it after its first steps.

    Those compile the network and fill caches. Steps come in random order, so that each part of an
    epoch costs alike.
    """
    network = network_of(made, PROFILE, SEED)
    marks: list[tuple[float, float]] = []

    def underway(done: float) -> None:
        marks.append((done * network.parameters.epochs, time.perf_counter()))
        if marks[-1][0] - marks[0][0] >= share:
            raise _EnoughError

    with suppress(_EnoughError):
        network.train_epoch(underway)
    (first, began), (last, ended) = marks[0], marks[-1]
    return (ended - began) / (last - first)


def _on(device: str, measure: Callable[..., float], *given: Any) -> float:
    """Measure in this process, which has not used a device yet."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        torch.set_num_threads(THREADS)
    return measure(*given)


def _ndcg(made: Path) -> float:
    files = made / "interactions.parquet", "time-split", made / "items.parquet"
    report = evaluate(*files, profile=PROFILE, ks=(10,), seed=SEED)
    return float(report["metrics"]["ndcg@10"]["value"])


def _ndcg_of_two(made: Path) -> float:
    """The same by two processes of a group, which on GPUs compute together by NCCL."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node=2")
        words = ("--protocol", "time-split", "--profile", PROFILE, "--k", "10", "--json", str(file))
        files = (str(made / "interactions.parquet"), "--items", str(made / "items.parquet"))
        command = [*torchrun, "-m", "slipstream_cli", "evaluate", *files, *words]
        subprocess.run([sys.executable, "-m", *command], check=True)
        return float(json.loads(file.read_text("utf-8"))["metrics"]["ndcg@10"]["value"])


if __name__ == "__main__":
    main()
