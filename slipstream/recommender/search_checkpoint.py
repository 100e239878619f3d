"""State of a search for the network's parameters in a file, from which a killed search goes on."""

import json
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slipstream.models.transformer import Transformer, TransformerParameters
from slipstream.models.transformer_fit import TransformerFit
from slipstream.models.transformer_training import Epoch
from slipstream.recommender.search import BestTrial, SearchState, Trial

_CONTENT, _ARRAY = "content", "array."


@dataclass(frozen=True)
class SearchCheckpoint:
    """The file of one search, which `digest` identifies. Without a path nothing is kept."""

    path: Path | None
    digest: str

    def read(self) -> SearchState | None:
        """The last state; None without a file, for half a file, or for another search's."""
        if self.path is None or not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                content = json.loads(file[_CONTENT].tobytes())
                arrays = {
                    name.removeprefix(_ARRAY): file[name]
                    for name in file.files
                    if name.startswith(_ARRAY)
                }
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return _state(content, arrays) if content["digest"] == self.digest else None

    def write(self, state: SearchState) -> None:
        """Replace the file.

        Where that fails, as on a full disk, the former state stays: a checkpoint only saves time.
        """
        if self.path is None:
            return
        unfinished = self.path.with_suffix(".unfinished")
        content = json.dumps({**_content(state), "digest": self.digest}).encode()
        arrays = state.best.network.model.arrays() if state.best else {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(
                    file,
                    allow_pickle=False,
                    **{_CONTENT: np.frombuffer(content, np.uint8)},
                    **{_ARRAY + name: array for name, array in arrays.items()},
                )
            unfinished.replace(self.path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()


def _content(state: SearchState) -> dict[str, Any]:
    best = state.best
    return {
        "trials": [{**t._asdict(), "parameters": asdict(t.parameters)} for t in state.trials],
        "qualities": state.qualities,
        "seconds": state.seconds,
        "best": best
        and {
            "quality": best.quality,
            "parameters": asdict(best.parameters),
            "model": best.network.model.parameters(),
            "epochs": best.network.epochs,
            "curve": [list(epoch) for epoch in best.network.curve],
        },
    }


def _state(content: dict[str, Any], arrays: dict[str, Any]) -> SearchState:
    trials = [
        Trial(**{**trial, "parameters": TransformerParameters(**trial["parameters"])})
        for trial in content["trials"]
    ]
    state = SearchState(trials, content["qualities"], None, content["seconds"])
    if best := content["best"]:
        model = Transformer.restore(arrays, best["model"])
        network = TransformerFit(model, best["epochs"], [Epoch(*e) for e in best["curve"]])
        parameters = TransformerParameters(**best["parameters"])
        state.best = BestTrial(best["quality"], network, parameters)
    return state
