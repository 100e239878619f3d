"""One of several processes that train a network together, and then another; `torchrun …
data_parallel.py FOLDER` writes what each came to.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from slipstream.models.base import Dense
from slipstream.models.transformer_fit import fit_transformer
from tests.unit.models.logs import history_of
from tests.unit.models.test_transformer import ITEMS, SMALL, ring

RANK = os.environ["RANK"]


def quality(dense: Dense) -> float:
    """To the first process each epoch is better than the one before, to the others worse: alone
    they would stop soon.
    """
    found = float(dense.score_all([history_of(0, 1)])[0, 2])
    return found if RANK == "0" else -found


if __name__ == "__main__":
    # The first compares all items, the second those that either process reads in a step.
    for seed, parameters in enumerate((SMALL, replace(SMALL, negatives=ITEMS // 2 - 1))):
        found = fit_transformer(ring(), parameters, quality=quality, seed=seed)
        np.save(Path(sys.argv[1]) / f"{RANK}-{seed}.npy", found.model.items.rows)
        np.save(
            Path(sys.argv[1]) / f"{RANK}-{seed}-next.npy",
            found.model.score(history_of(0, 1)).score,
        )
