"""The network of `transformer` as a torch module, and its loss.

The loss is the softmax over the catalogue (A. Klenitskiy, A. Vasilev, "Turning Dross Into Gold
Loss", RecSys 2023). A large catalogue gets a sample of negatives, corrected for the probability of
drawing each (X. Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
Recommendations", RecSys 2019). The positive is always there and needs no correction.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from slipstream.models.base import History
from slipstream.models.transformer import (
    BUCKETS,
    Shape,
    TransformerParameters,
    distance_buckets,
    gap_buckets,
    kind_of,
)

if TYPE_CHECKING:
    from scipy import sparse

_ROWS_AT_ONCE = 512


class Network(nn.Module):
    """The module that `Transformer` reads in NumPy; parameters are named as its arrays."""

    def __init__(
        self,
        n_items: int,
        parameters: TransformerParameters,
        shape: Shape,
        terms: "sparse.csr_array[Any, Any] | None",
    ):
        super().__init__()
        self.shape, dim, blocks = shape, parameters.dim, parameters.blocks
        self.ahead, self.unnamed = parameters.ahead, parameters.unnamed
        hidden = dim * 8 // 3
        self.has: Tensor
        self.begins: Tensor
        self.ends: Tensor
        self.much: Tensor
        """Which terms the items have, where each item's begin and end, and how much."""

        def matrix(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(blocks, *size) * math.sqrt(2 / sum(size)))

        # A step reads few of them, and has an optimiser of its own for those.
        self.own = nn.Parameter(torch.randn(n_items, dim) * parameters.own_scale, False)
        self.terms = (
            nn.Parameter(torch.randn(terms.shape[1], dim) * 0.1) if terms is not None else None
        )
        if terms is not None:
            for name, array in (
                ("has", terms.indices),
                ("begins", terms.indptr[:-1]),
                ("ends", terms.indptr[1:]),
            ):
                self.register_buffer(
                    name, torch.from_numpy(array.astype(np.int64)), persistent=False
                )
            self.register_buffer(
                "much", torch.from_numpy(terms.data.astype(np.float32)), persistent=False
            )
        self.kinds = nn.Parameter(torch.zeros(len(shape.kinds), dim))
        self.distance = nn.Parameter(torch.zeros(blocks, parameters.heads, BUCKETS))
        self.gap = nn.Parameter(torch.zeros(blocks, parameters.heads, BUCKETS))
        self.attention_norm, self.feed_norm = (
            nn.Parameter(torch.ones(blocks, dim)),
            nn.Parameter(torch.ones(blocks, dim)),
        )
        self.norm = nn.Parameter(torch.ones(dim))
        self.qkv, self.out = matrix(3 * dim, dim), matrix(dim, dim)
        self.up, self.down = matrix(2 * hidden, dim), matrix(dim, hidden)
        self.attention_gate, self.feed_gate = matrix(dim, dim), matrix(dim, dim)
        # Open at first: a block that starts closed learns late.
        self.attention_gate_bias = nn.Parameter(torch.ones(blocks, dim))
        self.feed_gate_bias = nn.Parameter(torch.ones(blocks, dim))
        self.dropout = _Dropout(parameters.dropout)

    def vectors(self, own: Tensor, items: Tensor) -> Tensor:
        """The vectors of these items, from their own vectors and their attributes (items, dim)."""
        if self.terms is None:
            return own
        if self.training and self.unnamed:
            own = own * (torch.rand(len(own), 1, device=own.device) >= self.unnamed)
        counts = self.ends[items] - self.begins[items]
        begins = counts.cumsum(0) - counts
        entries = (self.begins[items] - begins).repeat_interleave(counts)
        entries += torch.arange(len(entries), device=own.device)
        return own + F.embedding_bag(
            self.has[entries],
            self.terms,
            begins,
            mode="sum",
            per_sample_weights=self.much[entries],
        )

    def states(self, vectors: Tensor, batch: "SequenceBatch") -> Tensor:
        """The state of each sequence at each of its events (sequences, length, dim)."""
        length = batch.items.shape[1]
        unseen = torch.full((length, length), -1e9, device=vectors.device).triu(1)
        x = F.embedding(batch.items, vectors) * math.sqrt(vectors.shape[1]) + F.embedding(
            batch.kinds, self.kinds
        )
        x = self.dropout(x)
        # All look-ups are embeddings: the gradients of indexing are added up in whatever order
        # threads come to it.
        near, late = (
            F.embedding(buckets, of_bucket.flatten(0, 1).T)
            for buckets, of_bucket in ((batch.near, self.distance), (batch.late, self.gap))
        )
        biases = ((near + late).permute(0, 3, 1, 2) + unseen).chunk(len(self.qkv), 1)
        for block, bias in enumerate(biases):
            x = self._block(x, bias, block)
        normal: Tensor = F.rms_norm(x, (x.shape[-1],), self.norm, 1e-6)
        return normal

    def _block(self, x: Tensor, bias: Tensor, block: int) -> Tensor:
        sequences, length, dim = x.shape
        y = F.rms_norm(x, (dim,), self.attention_norm[block], 1e-6)
        qkv = (
            F.linear(y, self.qkv[block])
            .view(sequences, length, 3, self.shape.heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        queries, keys, values = qkv.unbind(0)
        attention = (
            queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1]) + bias
        ).softmax(-1)
        seen = (attention @ values).transpose(1, 2).reshape(sequences, length, dim)
        seen = self.dropout(F.linear(seen, self.out[block]))
        x = (
            x
            + torch.sigmoid(
                F.linear(y, self.attention_gate[block], self.attention_gate_bias[block])
            )
            * seen
        )
        y = F.rms_norm(x, (dim,), self.feed_norm[block], 1e-6)
        up, gate = F.linear(y, self.up[block]).chunk(2, -1)
        fed = self.dropout(F.linear(F.silu(gate) * up, self.down[block]))
        result: Tensor = (
            x + torch.sigmoid(F.linear(y, self.feed_gate[block], self.feed_gate_bias[block])) * fed
        )
        return result

    def forward(
        self,
        batch: "SequenceBatch",
        negatives: Tensor | None,
        log_drawn: Tensor,
        own: Tensor,
        items: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The mean loss of predicting each event from those before it, and the sum of the weights.

        A label is the next event, or with probability `ahead` one further on, and so on up to the
        sequence's last. It counts by its weight.

        Args:
            batch: The sequences. Here, and in `negatives`, an item is its place among `items`.
            negatives: Items that stand for the catalogue, in ascending order and each once; None
                compares with all `items`.
            log_drawn: The logarithm of each negative's expected number of draws, less that of its
                draws.
            own: The own vectors of `items`.
        """
        vectors, real = self.vectors(own, items), batch.real[:, 1:]
        states = self.states(vectors, batch)[:, :-1][real]
        target = torch.arange(1, batch.items.shape[1], device=real.device).expand_as(real)
        if self.ahead:
            further = torch.empty(target.shape, device=real.device).geometric_(1 - self.ahead)
            target = torch.minimum(target + further.long() - 1, real.sum(1, keepdim=True))
        labels, weights = (of.gather(1, target)[real] for of in (batch.items, batch.weights))
        with torch.autocast(vectors.device.type, enabled=False):
            states, whole = states.float(), weights.sum()
            weights = weights / whole
            if negatives is None:
                loss: Tensor = _WholeSoftmax.apply(states, vectors, labels, weights)  # type: ignore[no-untyped-call]
                return loss, whole
            # One look-up, since each costs a gradient as large as the catalogue.
            found = F.embedding(torch.cat((negatives, labels)), vectors)
            negative, positive = found[: len(negatives)], found[len(negatives) :]
            loss = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
                states, negative, positive, negatives, log_drawn, labels, weights
            )
            return loss, whole


class _Dropout(nn.Dropout):
    """Dropout that draws sixteen bits for each number: on a processor, torch's takes four times as
    long.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        return x * (bits >= round(self.p * 2**16) - 2**15).to(x.dtype).mul_(1 / (1 - self.p))


class _WholeSoftmax(torch.autograd.Function):
    """The weighted sum of cross-entropies over the whole catalogue, with its gradients in one pass.

    It works on blocks of rows, since the logits of all rows would not fit into the processor's
    caches.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, vectors: Tensor, labels: Tensor, weights: Tensor
    ) -> Tensor:
        by_state, by_vector, loss = (
            torch.empty_like(states),
            torch.zeros_like(vectors),
            states.new_zeros(()),
        )
        for begin in range(0, len(states), _ROWS_AT_ONCE):
            rows = slice(begin, begin + _ROWS_AT_ONCE)
            logits = states[rows] @ vectors.T
            place = torch.arange(len(logits), device=logits.device), labels[rows]
            own = logits[place]
            top = logits.amax(1, keepdim=True)
            total = logits.sub_(top).exp_().sum(1, keepdim=True)
            loss += ((top[:, 0] + total[:, 0].log() - own) * weights[rows]).sum()
            logits *= weights[rows, None] / total
            logits[place] -= weights[rows]
            by_state[rows] = logits @ vectors
            by_vector.addmm_(logits.T, states[rows])
        ctx.save_for_backward(by_state, by_vector)
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_state, by_vector = ctx.saved_tensors
        return by_state * outer[0], by_vector * outer[0], None, None


class _SampledSoftmax(torch.autograd.Function):
    """The same over each row's positive and the negatives that all rows share.

    Each negative's logit is reduced by `log_drawn`. A negative that is a row's positive is left out
    there.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        negative: Tensor,
        positive: Tensor,
        negatives: Tensor,
        log_drawn: Tensor,
        labels: Tensor,
        weights: Tensor,
    ) -> Tensor:
        by_state, by_negative, loss = (
            torch.empty_like(states),
            torch.zeros_like(negative),
            states.new_zeros(()),
        )
        own = (states * positive).sum(1)
        share_of_own = torch.empty_like(own)
        place = torch.searchsorted(negatives, labels).clamp_(max=len(negatives) - 1)
        drawn = (negatives[place] == labels).nonzero()[:, 0]
        for begin in range(0, len(states), _ROWS_AT_ONCE):
            rows = slice(begin, begin + _ROWS_AT_ONCE)
            logits = torch.addmm(-log_drawn, states[rows], negative.T)
            same = drawn[(drawn >= begin) & (drawn < begin + _ROWS_AT_ONCE)]
            logits[same - begin, place[same]] = -1e9
            top = torch.maximum(logits.amax(1), own[rows])
            share = logits.sub_(top[:, None]).exp_()
            of_own = (own[rows] - top).exp()
            total = share.sum(1) + of_own
            loss += ((top + total.log() - own[rows]) * weights[rows]).sum()
            share *= (weights[rows] / total)[:, None]
            share_of_own[rows] = (of_own / total - 1) * weights[rows]
            by_state[rows] = share @ negative
            by_negative.addmm_(share.T, states[rows])
        by_state.addcmul_(positive, share_of_own[:, None])
        ctx.save_for_backward(by_state, by_negative, states * share_of_own[:, None])
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient * outer[0] for gradient in ctx.saved_tensors), None, None, None, None)


class SequenceBatch(NamedTuple):
    """Sequences of like length (sequences, length). `real` is false for padding."""

    items: Tensor
    kinds: Tensor
    weights: Tensor
    # (length, length): buckets of distances.
    near: Tensor
    # (sequences, length, length): buckets of times between events.
    late: Tensor
    real: Tensor

    @classmethod
    def of(
        cls,
        history: History,
        real: NDArray[np.bool_],
        kinds: tuple[float, ...],
        device: torch.device,
    ) -> "SequenceBatch":
        """A batch from arrays of (sequences, length)."""
        times = history.timestamp
        arrays = (
            history.item.astype(np.int64),
            kind_of(history.weight, kinds),
            history.weight,
            distance_buckets(times.shape[1]),
            gap_buckets(times[:, :, None] - times[:, None]),
            real,
        )
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))
