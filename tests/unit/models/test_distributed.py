"""Two processes: a network each, or one network under torchrun, each on its share of it."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from slipstream.models.distributed import Pace, followed, may_begin, side_by_side
from tests.waiting import until

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.servers("real")  # it takes both cores for twenty seconds
def test_two_gloo_processes_come_to_the_same_networks_which_have_learned(tmp_path: Path) -> None:
    script = REPOSITORY / "tests" / "unit" / "models" / "data_parallel.py"
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, script, tmp_path], env=environment, timeout=250, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        first, second = (np.load(tmp_path / f"{rank}-{seed}.npy") for rank in (0, 1))
        np.testing.assert_array_equal(first, second)
        assert np.load(tmp_path / f"0-{seed}-next.npy").argmax() == 2


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


def epochs_noted(file: Path) -> None:
    epoch = 0
    while may_begin(epoch):
        epoch += 1
        file.write_text(str(epoch))


def test_a_follower_does_the_epochs_that_were_found_good_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    noted = tmp_path / "epochs"

    def first(pace: Pace | None) -> str:
        assert pace
        pace.allow(2)
        until(lambda: noted.exists() and noted.read_text() == "2")
        pace.allow(3)
        return "a model"

    assert followed(first, partial(epochs_noted, noted)) == "a model"
    assert noted.read_text() == "3"
    assert followed(lambda _: 5, partial(killed_aside, 4)) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert followed(lambda pace: pace, partial(epochs_noted, noted)) is None
