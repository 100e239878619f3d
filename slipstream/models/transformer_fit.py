"""The training of `transformer` with torch: on processor cores, a GPU, or several under torchrun.

Sequences of like length share a batch, so that there is hardly any padding. The kept weights are a
running average over steps (B. Polyak, A. Juditsky, "Acceleration of Stochastic Approximation by
Averaging", 1992). Training stops when they no longer get better on validation. Its state is kept in
a file, from which a killed training goes on.
"""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from slipstream.models import distributed
from slipstream.models.base import Dense, InteractionLog
from slipstream.models.transformer import Transformer, TransformerParameters
from slipstream.models.transformer_training import Epoch, NetworkInTraining

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training, which `digest` identifies. Without a path nothing is kept."""

    path: Path | None
    digest: str

    def read(self) -> dict[str, Any] | None:
        """The last state, mapped into memory that every process of a group can use.

        None without a file, for half a file, or for another training's.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(
                self.path, map_location="cpu", weights_only=True, mmap=True
            )
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
            with suppress(OSError):
                unfinished.unlink()

    def keep(self, parameters: TransformerParameters, fit: "TransformerFit") -> None:
        """Replace the file by a network that was trained with these parameters."""
        arrays = {name: torch.tensor(array) for name, array in fit.model.arrays().items()}
        self.write(
            {
                "trained_with": asdict(parameters),
                "arrays": arrays,
                "model": fit.model.parameters(),
                "epochs": fit.epochs,
                "curve": [tuple(epoch) for epoch in fit.curve],
            }
        )

    def kept(self, parameters: TransformerParameters) -> "TransformerFit | None":
        """The network that `keep` was given with these parameters, if it is the last one."""
        state = self.read()
        if state is None or state["trained_with"] != asdict(parameters):
            return None
        arrays = {name: tensor.numpy() for name, tensor in state["arrays"].items()}
        model = Transformer.restore(arrays, state["model"])
        return TransformerFit(model, state["epochs"], [Epoch(*epoch) for epoch in state["curve"]])


def digest(settings: object, *arrays: np.ndarray[Any, Any]) -> str:
    """A digest of settings (by their `repr`) and arrays."""
    found = hashlib.sha256(repr(settings).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


@dataclass(frozen=True)
class TransformerFit:
    """A trained network. `epochs` is the age of its weights; `curve` has each epoch's entry."""

    model: Transformer
    epochs: int
    curve: list[Epoch]


def fit_transformer(
    log: InteractionLog,
    parameters: TransformerParameters,
    *,
    terms: "sparse.csr_array[Any, Any] | None" = None,
    quality: Callable[[Dense], float] | None = None,
    progress: Callable[[Epoch], None] = lambda _: None,
    underway: Callable[[float], None] = lambda _: None,
    checkpoints: Path | None = None,
    seed: int = 0,
) -> TransformerFit:
    """Train on the sequences of `log`.

    The same input and seed give the same model to the bit, on one kind of machine with as many
    processes and threads. In a group this is called in the first process, and the others assist.

    Args:
        terms: Attributes of the items (items, terms), so that an item without events has a vector,
            too.
        quality: Judges the network after each epoch, higher is better; the best weights are kept.
            Without it all epochs are trained.
        progress: Called with each epoch that has ended, those of an interrupted training too.
        underway: Called within an epoch with the share of all epochs that is done.
        checkpoints: Where an interrupted training goes on after its last whole epoch.

    Raises:
        ValueError: No user has two events.
    """
    if not (log.user[1:] == log.user[:-1]).any():
        raise ValueError("no visitor has two events: there is no sequence to learn from")
    group = distributed.process_group()
    with group.together(), distributed.one_thread():
        group.share((_assist, (log, parameters, terms, seed)))
        run = NetworkInTraining(group, log, parameters, terms, seed)
        sizes = [(name, tuple(value.shape)) for name, value in run.network.named_parameters()]
        arrays = [
            log.user,
            log.item,
            log.timestamp,
            log.weight,
            *((terms.indices, terms.data) if terms is not None else ()),
        ]
        # An epoch is the same, however many will follow.
        of_epoch = replace(parameters, epochs=0, patience=0)
        training = digest((of_epoch, seed, group.size, sizes), *arrays)
        file = f"transformer-{training[:16]}.pt"
        checkpoint = Checkpoint(checkpoints / file if checkpoints else None, training)
        state = checkpoint.read()
        if state and state["epoch"] > parameters.epochs:
            state = None
        group.share(state)
        between = True
        try:
            if state:
                run.go_back_to(state)
            for epoch in run.curve:
                progress(epoch)
            while (
                run.epoch < parameters.epochs and run.epoch - run.best.epoch < parameters.patience
            ):
                group.share(True)
                between = False
                loss = run.train_epoch(underway)
                between = True
                if run.diverged():  # what was best before stays
                    break
                with run.averaged() as dense:
                    found = quality(dense) if quality else None
                run.judged(loss, found)
                if not distributed.may_keep(run.epoch):
                    break
                checkpoint.write(run.state())
                progress(run.curve[-1])
        finally:
            if between:
                group.share(False)
            else:
                group.leave()
        return TransformerFit(run.model(), run.best.epoch, run.curve)


def _assist(
    group: distributed.ProcessGroup,
    log: InteractionLog,
    parameters: TransformerParameters,
    terms: "sparse.csr_array[Any, Any] | None",
    seed: int,
) -> None:
    """Do this process's part of the epochs of `fit_transformer` in the first process."""
    run = NetworkInTraining(group, log, parameters, terms, seed)
    if state := group.share():
        run.go_back_to(state)
    while group.share():
        run.train_epoch(lambda _: None)
