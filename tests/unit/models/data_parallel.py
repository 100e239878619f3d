"""One of several processes that train a network together, and then others; `torchrun …
data_parallel.py FOLDER [fail|die]` writes the weights that each process has after each epoch. With
`fail` the first process ends with status 3 between two epochs, with `die` the second is killed.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from slipstream.models.base import Dense
from slipstream.models.distributed import led
from slipstream.models.transformer_fit import fit_transformer
from slipstream.models.transformer_training import Epoch, NetworkInTraining
from tests.unit.models.logs import history_of
from tests.unit.models.test_transformer import ITEMS, SMALL, ring

FOLDER, *FAULT = sys.argv[1:]
RANK = os.environ["RANK"]
train_epoch = NetworkInTraining.train_epoch


def noted(run: NetworkInTraining, underway: Callable[[float], None]) -> float:
    loss = train_epoch(run, underway)
    if FAULT == ["die"] and RANK == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    weights = [value.detach().numpy().ravel() for value in run.network.parameters()]
    name = f"{RANK}-{run.seed}-{run.epoch}.npy"
    np.save(Path(FOLDER) / name, np.concatenate([*weights, run.rows.average.numpy().ravel()]))
    return loss


def stop_early(epoch: Epoch) -> None:
    if epoch.epoch == 2:
        raise InterruptedError


def quality(dense: Dense) -> float:
    return float(dense.score_all([history_of(0, 1)])[0, 2])


if __name__ == "__main__":
    NetworkInTraining.train_epoch = noted  # type: ignore[method-assign]
    with led() as first:
        if not first:
            sys.exit(0)
        # A trial of a search that ends early leaves the group as it was.
        with suppress(InterruptedError):
            fit_transformer(ring(), SMALL, quality=quality, progress=stop_early, seed=2)
        if FAULT == ["fail"]:
            sys.exit(3)
        # The first compares all items, the second those that either process reads in a step.
        for seed, parameters in enumerate((SMALL, replace(SMALL, negatives=ITEMS // 2 - 1))):
            found = fit_transformer(ring(240), parameters, quality=quality, seed=seed)
            np.save(Path(FOLDER) / f"next-{seed}.npy", found.model.score(history_of(0, 1)).score)
