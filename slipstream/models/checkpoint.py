"""Where a training stands, in a file, so that one that was killed goes on instead of beginning
anew.
"""

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Checkpoint:
    """A file for one training, which is known by `digest`. Without a path nothing is kept."""

    path: Path | None
    digest: str

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """What was written last; None where there is nothing, half a file, or another training's."""
        if self.path is None or not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None
        return state if state.get("digest") == self.digest else None

    def write(self, state: dict[str, Any]) -> None:
        """Replaces the file; tensors and plain values only. Where that fails, as on a full disk,
        the one before stays: a checkpoint saves time and nothing else.
        """
        if self.path is None:
            return
        unfinished = self.path.with_suffix(".unfinished")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({**state, "digest": self.digest}, unfinished)
            unfinished.replace(self.path)
        except (OSError, RuntimeError):
            unfinished.unlink(missing_ok=True)


def digest(settings: object, *arrays: np.ndarray[Any, Any]) -> str:
    """The same for the same settings (by their `repr`) and arrays."""
    found = hashlib.sha256(repr(settings).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
