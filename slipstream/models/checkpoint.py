"""The state of a training in a file, from which a killed training goes on."""

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training, which `digest` identifies. Without a path nothing is kept."""

    path: Path | None
    digest: str

    def read(self, device: torch.device) -> dict[str, Any] | None:
        """The last state; None without a file, for half a file, or for another training's."""
        if self.path is None or not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None
        return state if state.get("digest") == self.digest else None

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file. `state` holds tensors and plain values only.

        Where that fails, as on a full disk, the former state stays: a checkpoint only saves time.
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
    """A digest of settings (by their `repr`) and arrays."""
    found = hashlib.sha256(repr(settings).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
