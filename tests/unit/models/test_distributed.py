"""Two processes: a network each, or one network under torchrun, each on its share of it."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from slipstream.models.distributed import Pace, ProcessGroup, followed, may_keep, side_by_side
from slipstream.models.transformer_training import NetworkInTraining
from tests.unit.models.test_transformer import SMALL, ring
from tests.waiting import until

REPOSITORY = Path(__file__).parents[3]


def in_two_processes(*arguments: object) -> int:
    """The exit status of `data_parallel` in two processes."""
    program = (
        "from slipstream.models.distributed import start_group; import sys;"
        " sys.exit(start_group('tests.unit.models.data_parallel', sys.argv[1:], 2))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=250).returncode


@pytest.mark.servers("real")  # it takes both cores for twenty seconds
def test_two_gloo_processes_come_to_the_same_networks_which_have_learned(tmp_path: Path) -> None:
    for again in ("once", "twice"):
        (tmp_path / again).mkdir()
        assert in_two_processes(tmp_path / again) == 0
    written = sorted((tmp_path / "once").glob("[01]-*.npy"))
    assert {file.name[:3] for file in written} == {"0-0", "0-1", "0-2", "1-0", "1-1", "1-2"}
    for file in written:
        other = tmp_path / "twice" / f"{1 - int(file.name[0])}{file.name[1:]}"
        np.testing.assert_array_equal(np.load(file), np.load(other))
    for seed in (0, 1):
        assert np.load(tmp_path / "once" / f"next-{seed}.npy").argmax() == 2


@pytest.mark.servers("real")  # it takes both cores for twenty seconds
@pytest.mark.parametrize(("fault", "status"), [("fail", 3), ("die", 128 + signal.SIGKILL)])
def test_a_group_ends_with_the_status_of_the_process_that_failed(
    tmp_path: Path, fault: str, status: int
) -> None:
    assert in_two_processes(tmp_path, fault) == status


def process_of(number: int, told: Callable[[str], None] = lambda _: None) -> tuple[int, int]:
    told(f"training {number}")
    return number, os.getpid()


def killed_aside(number: int) -> int:
    if multiprocessing.parent_process() is not None:
        os._exit(9)
    return number


def test_two_trainings_have_a_process_each_and_one_that_is_killed_goes_on_in_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    heard: list[str] = []
    (first, here), (second, aside) = side_by_side(
        [partial(process_of, 1), partial(process_of, 2)], told=heard.append
    )
    assert (first, second, heard) == (1, 2, ["training 1"])
    assert here == os.getpid() != aside
    with pytest.warns(UserWarning, match="process was killed"):
        assert side_by_side([partial(int, 3), partial(killed_aside, 4)]) == [3, 4]
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert side_by_side([partial(process_of, 1), partial(process_of, 2)])[1] == (2, os.getpid())


def epochs_noted(kept: Path, done: Path) -> None:
    epoch = 1
    done.write_text("1")
    while may_keep(epoch):
        kept.write_text(str(epoch))
        epoch += 1
        done.write_text(str(epoch))


def test_a_follower_is_an_epoch_ahead_and_keeps_those_that_were_found_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    kept, done = tmp_path / "kept", tmp_path / "done"

    def first(pace: Pace | None) -> str:
        assert pace
        until(lambda: done.exists() and done.read_text() == "1")
        assert not kept.exists()
        pace.allow(2)
        until(lambda: done.read_text() == "3")
        assert kept.read_text() == "2"
        pace.allow(3)
        return "a model"

    assert followed(first, partial(epochs_noted, kept, done)) == "a model"
    assert (kept.read_text(), done.read_text()) == ("3", "4")
    assert followed(lambda _: 5, partial(killed_aside, 4)) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert followed(lambda pace: pace, partial(epochs_noted, kept, done)) is None


@pytest.mark.parametrize("own_negatives", [None, 4])
def test_the_mean_gradient_of_two_unequal_parts_is_that_of_the_whole_batch(
    own_negatives: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = replace(SMALL, dropout=0.0, ahead=0.0, own_scale=0.1)
    log = replace(ring(), weight=np.tile(np.array([1, 3], np.float32), 480))
    alone = ProcessGroup(1, 0, torch.device("cpu"))
    run = NetworkInTraining(alone, log, parameters, None, 0)
    negatives = None if own_negatives is None else torch.arange(own_negatives)
    begin, length = np.arange(30) * 8, np.tile([8, 5, 3], 10)

    def gradients(part: slice, group: ProcessGroup) -> list[Tensor]:
        own = run.network.own.data.clone().requires_grad_()
        loss, weight = run.network(
            run._batch(begin[part], length[part]), negatives, torch.zeros(4), own, run.every
        )
        weights.append(weight)
        run.optimiser.zero_grad()
        group.weighted(loss, weight).backward()
        return [
            value.grad.clone() for value in (own, *run.dense.values()) if value.grad is not None
        ]

    weights: list[Tensor] = []
    whole = gradients(slice(None), alone)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: value.copy_(weights[0]))
    first, second = (
        gradients(part, replace(alone, size=2)) for part in (slice(0, 7), slice(7, None))
    )
    assert weights[0] == weights[1] + weights[2] != 2 * weights[1]
    for expected, here, there in zip(whole, first, second, strict=True):
        torch.testing.assert_close((here + there) / 2, expected, atol=1e-5, rtol=1e-5)
