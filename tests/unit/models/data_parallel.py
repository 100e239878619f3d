"""One of several processes that train a network together; `torchrun … data_parallel.py FOLDER` writes what each came to."""

import os
import sys
from pathlib import Path

import numpy as np

from slipstream.models.transformer_fit import fit_transformer
from tests.unit.models.test_transformer import SMALL, history_of, ring

if __name__ == "__main__":
    found = fit_transformer(ring(), SMALL, quality=lambda dense: float(dense.score_all([history_of([0, 1])])[0, 2]))
    np.save(Path(sys.argv[1]) / f"{os.environ['RANK']}.npy", found.model.items.rows)
    np.save(Path(sys.argv[1]) / f"{os.environ['RANK']}-next.npy", found.model.score(history_of([0, 1])).score)
