"""Two processes under torchrun train one network, each on its share of the sequences."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[3]


def test_two_gloo_processes_come_to_the_same_network_which_has_learned(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = str(REPOSITORY / "tests" / "unit" / "models" / "data_parallel.py")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, script, str(tmp_path)], env=environment, check=True, timeout=100, capture_output=True)
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in (0, 1))
    np.testing.assert_array_equal(first, second)
    assert np.load(tmp_path / "0-next.npy").argmax() == 2
