"""A transformer in training: its steps, its best weights, and the state to go on from.

Histories are cut into sequences: pieces of like length that fit the network's window.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slipstream.models import distributed
from slipstream.models.base import Dense, History, InteractionLog, Scores
from slipstream.models.clusters import clustered
from slipstream.models.row_adamw import BETAS, RowAdamW
from slipstream.models.transformer import Shape, Transformer, TransformerParameters
from slipstream.models.transformer_network import Network, SequenceBatch

if TYPE_CHECKING:
    from scipy import sparse


def sequences(
    users: NDArray[np.int32], window: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and length of pieces of at most `window` + 1 events of one user each.

    Together they predict every event of a user but the first exactly once. Each call draws new
    random cuts of long histories.
    """
    starts = (
        np.flatnonzero(np.append(True, users[1:] != users[:-1]))
        if len(users)
        else np.empty(0, np.int64)
    )
    ends = np.append(starts[1:], len(users))
    first, last = [], []
    short = ends - starts <= window + 1
    for start, end in zip(starts[~short].tolist(), ends[~short].tolist(), strict=True):
        cuts = np.unique(
            np.append(np.arange(start + int(random.integers(1, window + 1)), end, window), end)
        )
        first.append(np.append(start, cuts[:-1] - 1))
        last.append(cuts)
    begin = np.concatenate([starts[short], *first]).astype(np.int64)
    length = np.concatenate([ends[short], *last]).astype(np.int64) - begin
    return begin[length >= 2], length[length >= 2]


def filled(length: NDArray[np.int64], room: int) -> Iterator[NDArray[np.int64]]:
    """Places of ascending lengths in groups of at most `room` events each, but one piece at least.

    Each piece counts with the length of its group's longest.
    """
    begin = 0
    while begin < len(length):
        end = begin + 1
        while end < len(length) and (end + 1 - begin) * int(length[end]) <= room:
            end += 1
        yield np.arange(begin, end)
        begin = end


_MOST_KINDS = 16
_CLIP = 5.0
# Steps between two calls of `underway`: some seconds.
_TOLD_EVERY = 50


class Epoch(NamedTuple):
    """The progress of a training."""

    epoch: int
    epochs: int
    loss: float
    quality: float | None


class _Best(NamedTuple):
    """The best weights so far, and their epoch."""

    epoch: int
    quality: float
    weights: dict[str, Tensor]


class NetworkInTraining:
    """A network in training."""

    def __init__(
        self,
        group: distributed.ProcessGroup,
        log: InteractionLog,
        parameters: TransformerParameters,
        terms: "sparse.csr_array[Any, Any] | None",
        seed: int,
    ) -> None:
        self.group, self.log, self.parameters, self.seed = group, log, parameters, seed
        self.device = group.device
        torch.manual_seed(seed)
        kinds = np.unique(log.weight)
        if len(kinds) > _MOST_KINDS:
            kinds = np.quantile(kinds, np.linspace(0, 1, _MOST_KINDS), method="lower")
        shape = Shape(parameters.window, parameters.heads, tuple(float(kind) for kind in kinds))
        self.network = Network(log.n_items, parameters, shape, terms).to(self.device)
        self.wrapped = self.group.wrap(self.network)
        self.dense = {
            name: value for name, value in self.network.named_parameters() if name != "own"
        }
        self.optimiser = torch.optim.AdamW(
            self.dense.values(), weight_decay=parameters.weight_decay, betas=BETAS, fused=True
        )
        self.rows = RowAdamW(
            self.network.own.data,
            parameters.learning_rate,
            parameters.weight_decay,
        )
        self.every = torch.arange(log.n_items, device=self.device)
        self.average = {**self._weights(), "own": self.rows.average}
        self.best = _Best(0, -math.inf, self._weights())
        self.epoch = self.step = 0
        self.curve: list[Epoch] = []
        count = np.bincount(log.item, minlength=log.n_items).astype(np.float64)
        self.known = count > 0
        drawn = np.where(self.known, count, 0.1) ** 0.75
        self.drawn = torch.from_numpy(drawn / drawn.sum()).float().to(self.device)

    def train_epoch(self, underway: Callable[[float], None]) -> float:
        """Pass once over all sequences, and return the mean loss of the steps."""
        own = self.parameters
        torch.manual_seed(self.seed * 1_000_003 + self.epoch * 1_009 + self.group.rank)
        self.network.train()
        losses = []
        batches = self._batches(np.random.default_rng([self.seed, self.epoch]))
        for place, (begin, length) in enumerate(batches):
            self.step += 1
            done = (self.epoch + place / len(batches)) / own.epochs
            if self.step % _TOLD_EVERY == 0:
                underway(done)
            for group in self.optimiser.param_groups:
                group["lr"] = self.rows.rate(self.step)
            losses.append(self._step(self._batch(begin, length)))
        self.rows.make_up_all(self.step)
        self.epoch += 1
        return float(np.mean(losses)) if losses else 0.0

    def _step(self, batch: SequenceBatch) -> float:
        """Do one step, and return its loss. It costs as much as the items that it reads."""
        negatives, log_drawn = self._negatives()
        items = self.every
        if negatives is not None:
            items = self.group.union(torch.cat((batch.items.flatten(), negatives)))
            batch = batch._replace(items=torch.searchsorted(items, batch.items))
            negatives = torch.searchsorted(items, negatives)
        own = self.rows.read(items, self.step)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=distributed.quick_in_bfloat16(self.device)
        ):
            loss, weight = self.wrapped(batch, negatives, log_drawn, own, items)
        self.optimiser.zero_grad()
        self.group.weighted(loss, weight).backward()  # type: ignore[no-untyped-call]
        gradient = self.group.gradient(own)
        nn.utils.clip_grad_norm_([own, *self.dense.values()], _CLIP)
        self.optimiser.step()
        self.rows.take(items, gradient, self.step)
        with torch.no_grad():
            for name, value in self.dense.items():
                self.average[name].lerp_(value, 1 - self.rows.kept(self.step))
        return float(loss.item())

    def diverged(self) -> bool:
        """Whether weights are NaN or infinite, so that scores would compare with nothing."""
        return not all(bool(value.isfinite().all()) for value in self.average.values())

    @contextmanager
    def averaged(self) -> Iterator[Dense]:
        """Give the network its average weights for the block, as a scorer."""
        present = self._weights()
        self.network.load_state_dict(self.average, strict=False)
        self.network.eval()
        try:
            yield _Answers(self.network, self.every)
        finally:
            self.network.load_state_dict(present, strict=False)

    def judged(self, loss: float, quality: float | None) -> None:
        """End an epoch, and keep its weights if they are the best, or if nothing judges them."""
        self.curve.append(Epoch(self.epoch, self.parameters.epochs, loss, quality))
        if quality is None or quality > self.best.quality:
            self.best = _Best(
                self.epoch,
                quality or 0.0,
                {name: value.clone() for name, value in self.average.items()},
            )

    def state(self) -> dict[str, Any]:
        """The state from which the training can go on."""
        return {
            "weights": self._weights(),
            "optimiser": self.optimiser.state_dict(),
            "rows": self.rows.state(),
            "average": self.average,
            "best": list(self.best),
            "epoch": self.epoch,
            "step": self.step,
            "curve": [list(entry) for entry in self.curve],
        }

    def go_back_to(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.network.load_state_dict(state["weights"], strict=False)
        self.optimiser.load_state_dict(state["optimiser"])
        self.rows.go_back_to(state["rows"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.best = _Best(*state["best"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.curve = [Epoch(*entry) for entry in state["curve"]]

    def model(self) -> Transformer:
        """The network for serving, with the best weights."""
        self.network.load_state_dict(self.best.weights, strict=False)
        with torch.no_grad():
            vectors = self.network.vectors(self.network.own, self.every).detach().clone()
            if (
                self.network.terms is not None
            ):  # an item without events has only its attributes to go by
                unknown = torch.from_numpy(~self.known).to(self.device)
                vectors = torch.where(unknown[:, None], vectors - self.network.own, vectors)
            arrays = {
                name: value.detach().cpu().numpy()
                for name, value in self.network.named_parameters()
                if name != "own"
            }
        return Transformer(arrays, clustered(vectors.cpu().numpy(), self.seed), self.network.shape)

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the parameters."""
        return {name: value.detach().clone() for name, value in self.network.named_parameters()}

    def _negatives(self) -> tuple[Tensor | None, Tensor]:
        """Items drawn for one step, each once, with the logarithm of expected draws over draws."""
        wanted = self.parameters.negatives
        if self.log.n_items <= 2 * wanted:
            return None, self.drawn
        found = torch.multinomial(self.drawn, wanted, replacement=True)
        drawn, draws = torch.unique(found, return_counts=True)
        return drawn, (self.drawn[drawn] * wanted / draws).log()

    def _batches(
        self, random: np.random.Generator
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """This process's batches of the epoch, in random order: begins and lengths of sequences."""
        begin, length = sequences(self.log.user, self.parameters.window, random)
        order = np.lexsort((random.random(len(length)), length))
        room = max(1, self.parameters.batch // self.group.size)
        groups = list(filled(length[order], room))
        random.shuffle(groups)
        whole = len(groups) - len(groups) % self.group.size
        mine = groups[self.group.rank : whole : self.group.size]
        return [(begin[order[group]], length[order[group]]) for group in mine]

    def _batch(self, begin: NDArray[np.int64], length: NDArray[np.int64]) -> SequenceBatch:
        places = np.arange(length.max())
        real = places < length[:, None]
        rows = np.minimum(begin[:, None] + places, begin[:, None] + length[:, None] - 1)
        log = self.log
        history = History(log.item[rows], log.weight[rows], log.timestamp[rows])
        return SequenceBatch.of(history, real, self.network.shape.kinds, self.device)


class _Answers:
    """The network as `Dense`."""

    def __init__(self, network: Network, items: Tensor) -> None:
        self._network, self.n_items = network, len(items)
        with torch.no_grad():
            self._vectors = network.vectors(network.own, items)

    @torch.no_grad()
    def score_all(self, histories: Sequence[History]) -> Scores:
        shape, vectors = self._network.shape, self._vectors
        length = np.array([min(max(1, len(history.item)), shape.window) for history in histories])
        tables: list[NDArray[Any]] = [
            np.zeros((len(histories), length.max()), kind)
            for kind in (np.int32, np.float32, np.int64)
        ]
        for row, history in enumerate(histories):
            parts: tuple[NDArray[Any], ...] = history
            for table, part in zip(tables, parts, strict=True):
                table[row, : length[row]] = part[-shape.window :] if len(part) else 0
        filled_up = History(*tables)
        device = vectors.device
        states = self._network.states(
            vectors, SequenceBatch.of(filled_up, np.empty(0, np.bool_), shape.kinds, device)
        )
        last = states[
            torch.arange(len(histories), device=device), torch.from_numpy(length - 1).to(device)
        ]
        return np.asarray((last @ vectors.T).float().cpu().numpy(), np.float32)
