"""An optimiser of the rows that a step reads, compared with torch's AdamW on all rows."""

import math

import numpy as np
import pytest
import torch

from slipstream.models.row_adamw import BETAS, RowAdamW

ROWS, DIM, RATE = 60, 4, 4e-3


class Dense:
    """All rows in each step: torch's AdamW, and a running average."""

    def __init__(self, weights: torch.Tensor, decay: float) -> None:
        self.weights = torch.nn.Parameter(weights.clone())
        self.average = weights.clone()
        self.adamw = torch.optim.AdamW([self.weights], weight_decay=decay, betas=BETAS)

    def take(self, places: torch.Tensor, gradient: torch.Tensor, step: int) -> None:
        self.adamw.param_groups[0]["lr"] = RATE * min(1.0, step / 100)
        self.weights.grad = torch.zeros_like(self.weights)
        self.weights.grad[places] = gradient
        self.adamw.step()
        self.average.lerp_(self.weights.detach(), 3 / (step + 4))


def trained(share: float, steps: int, decay: float = 0.3) -> tuple[RowAdamW, Dense]:
    """Both after some steps, each of which reads a random share of the rows."""
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(ROWS, DIM, generator=random) * 0.02
    rows, dense = RowAdamW(weights.clone(), RATE, decay), Dense(weights, decay)
    for step in range(1, steps + 1):
        places = torch.randperm(ROWS, generator=random)[: int(share * ROWS)].sort().values
        gradient = torch.randn(len(places), DIM, generator=random)
        rows.read(places, step)
        rows.take(places, gradient, step)
        dense.take(places, gradient, step)
    rows.make_up_all(steps)
    return rows, dense


def test_rows_of_every_step_move_as_with_adamw() -> None:
    rows, dense = trained(share=1.0, steps=150)
    torch.testing.assert_close(rows.weights, dense.weights.detach(), rtol=0, atol=2e-6)
    torch.testing.assert_close(rows.average, dense.average, rtol=0, atol=2e-6)


@pytest.mark.parametrize("share", [0.05, 0.3])
@pytest.mark.parametrize("steps", [40, 200, 700])
def test_rows_that_rested_are_where_adamw_has_taken_them(share: float, steps: int) -> None:
    rows, dense = trained(share, steps)
    far = dense.weights.detach().std().item()
    for ours, theirs in ((rows.weights, dense.weights.detach()), (rows.average, dense.average)):
        assert (ours - theirs).abs().mean().item() < 0.03 * far
        assert np.corrcoef(ours.flatten(), theirs.flatten())[0, 1] > 0.998


def test_a_share_of_the_average_that_equals_the_decay_divides_by_nothing() -> None:
    # A row that rests in step 300 alone loses as much by decay as its average does.
    rows, dense = trained(0.5, 700, decay=-math.log(RowAdamW.kept(300)) / RATE)
    assert bool(rows.average.isfinite().all())
    assert np.corrcoef(rows.average.flatten(), dense.average.flatten())[0, 1] > 0.998


def test_a_row_that_is_never_read_only_decays() -> None:
    rows = RowAdamW(torch.ones(2, DIM), RATE, 0.3)
    for step in range(1, 501):
        rows.read(torch.tensor([1]), step)
        rows.take(torch.tensor([1]), torch.ones(1, DIM), step)
    rows.make_up_all(500)
    assert rows.weights[0].numpy() == pytest.approx((1 - RATE * 0.3) ** 450.5, rel=1e-3)


def test_a_state_is_taken_to_where_the_weights_are() -> None:
    rows, _ = trained(share=1.0, steps=2)
    elsewhere = RowAdamW(torch.zeros(ROWS, DIM, device="meta"), RATE, 0.3)
    elsewhere.go_back_to(rows.state())
    assert {each.device.type for each in elsewhere.state()} == {"meta"}
