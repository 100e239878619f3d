"""The network's losses compared with plain formulas, and its dropout."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slipstream.models import transformer_network
from slipstream.models.transformer_network import _Dropout, _SampledSoftmax, _WholeSoftmax

ITEMS, ROWS, DIM = 40, 23, 6


@pytest.fixture(autouse=True)
def blocks_of_ten_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer_network, "_ROWS_AT_ONCE", 10)


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, vectors, labels and weights."""
    random = torch.Generator().manual_seed(seed)
    return (
        torch.randn(ROWS, DIM, generator=random).requires_grad_(),
        torch.randn(ITEMS, DIM, generator=random).requires_grad_(),
        torch.randint(ITEMS, (ROWS,), generator=random),
        torch.rand(ROWS, generator=random),
    )


def assert_same(loss: Tensor, expected: Tensor, *of: Tensor) -> None:
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(
        torch.autograd.grad(loss, of), torch.autograd.grad(expected, of), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_whole_softmax_is_the_cross_entropy_with_its_gradients() -> None:
    states, vectors, labels, weights = drawn(0)
    expected = (F.cross_entropy(states @ vectors.T, labels, reduction="none") * weights).sum()
    assert_same(
        _WholeSoftmax.apply(states, vectors, labels, weights),  # type: ignore[no-untyped-call]
        expected,
        states,
        vectors,
    )


@pytest.mark.parametrize("seed", range(3))
def test_sampled_softmax_counts_an_item_as_often_as_it_was_drawn_but_never_the_label(
    seed: int,
) -> None:
    states, vectors, labels, weights = drawn(seed)
    random = torch.Generator().manual_seed(seed)
    probability = torch.rand(ITEMS, generator=random)
    probability /= probability.sum()
    draws = 30
    negatives = torch.multinomial(probability, draws, replacement=True, generator=random)
    assert len(negatives.unique()) < draws
    assert bool((negatives == labels[:, None]).any())

    logits = states @ vectors[negatives].T - (draws * probability[negatives]).log()
    logits = logits.masked_fill(negatives == labels[:, None], -torch.inf)
    positive = (states * vectors[labels]).sum(1, keepdim=True)
    losses = torch.cat((positive, logits), 1).logsumexp(1) - positive[:, 0]

    once, counts = negatives.unique(return_counts=True)
    loss = _SampledSoftmax.apply(  # type: ignore[no-untyped-call]
        states,
        vectors[once],
        vectors[labels],
        once,
        (draws * probability[once] / counts).log(),
        labels,
        weights,
    )
    assert_same(loss, (losses * weights).sum(), states, vectors)


def test_dropout_drops_its_share_scales_the_rest_and_repeats_itself() -> None:
    dropout, ones = _Dropout(0.3), torch.ones(333, 301, requires_grad=True)
    torch.manual_seed(1)
    found = dropout(ones)
    assert found.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert float((found == 0).float().mean()) == pytest.approx(0.3, abs=0.006)
    (gradient,) = torch.autograd.grad(found.sum(), ones)
    assert torch.equal(gradient, found)
    torch.manual_seed(1)
    assert torch.equal(dropout(ones), found)
    assert not torch.equal(dropout(ones), found)
    assert dropout.eval()(ones) is ones
