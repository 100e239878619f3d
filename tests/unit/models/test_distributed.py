"""Two processes under torchrun train a network together, each on its share of the sequences."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
