"""Self-check of an installation: the network is fitted on a known data set.

Everyone in the data walks around a ring of items, so the right answers are known. A fit that does
not find them is a broken build of torch, or a broken device.
"""

import time
from typing import Any, Final

import numpy as np

from slipstream.models.base import History, InteractionLog
from slipstream.models.device import device_name
from slipstream.models.transformer import TransformerParameters
from slipstream.models.transformer_fit import fit_transformer

ITEMS, _VISITORS, _LENGTH = 12, 120, 8
# Items after which the right next one must come first, of `ITEMS`.
LEAST_RIGHT: Final = 11
_SMALL: Final = TransformerParameters(
    patience=3, dim=16, window=6, batch=200, epochs=8, dropout=0.1, learning_rate=1e-2
)


class SelfCheckError(Exception):
    """The fit is wrong."""


def self_check() -> dict[str, Any]:
    """Fit the network on the ring, and return the device, the right answers and the seconds.

    Raises SelfCheckError for fewer than `LEAST_RIGHT` right answers.
    """
    began = time.perf_counter()
    model = fit_transformer(_ring(), _SMALL).model
    first = [int(model.score(_after(item)).score.argmax()) for item in range(ITEMS)]
    right = sum(found == (item + 2) % ITEMS for item, found in enumerate(first))
    told = {
        "device": device_name(),
        "right": right,
        "of": ITEMS,
        "seconds": round(time.perf_counter() - began, 1),
    }
    if right < LEAST_RIGHT:
        raise SelfCheckError(f"the network has learned too little of known data: {told}")
    return told


def _ring() -> InteractionLog:
    starts = np.random.default_rng(0).integers(ITEMS, size=_VISITORS)
    item = (starts[:, None] + np.arange(_LENGTH)) % ITEMS
    return InteractionLog(
        np.repeat(np.arange(_VISITORS), _LENGTH).astype(np.int32),
        item.ravel().astype(np.int32),
        np.tile(np.arange(_LENGTH) * 1_000, _VISITORS).astype(np.int64),
        np.ones(item.size, np.float32),
        ITEMS,
    )


def _after(item: int) -> History:
    """The history of a visitor who has come to the item after this one."""
    items = np.array([item, (item + 1) % ITEMS], np.int32)
    return History(items, np.ones(2, np.float32), np.array([0, 1_000], np.int64))
