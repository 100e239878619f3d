"""AdamW (I. Loshchilov, F. Hutter, ICLR 2019) and an average of weights, for the rows a step reads.

A row without a gradient moves on: by its momentum, and towards zero. The steps in which it rested
are made up in closed form when it is read again, so that a step costs as much as it reads, however
many rows there are.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BETAS = 0.9, 0.98
_EPSILON = 1e-8
# Without gradients, the quotient of both moments shrinks by this in each step.
_MOMENTUM = BETAS[0] / math.sqrt(BETAS[1])
_WARM_UP = 100
_ROWS_AT_ONCE = 50_000


class _Rows(NamedTuple):
    """Some rows: weights, their average, and both moments of their gradients."""

    weights: Tensor
    average: Tensor
    first: Tensor
    second: Tensor


class RowAdamW:
    """The optimiser of one matrix (rows, dim), `weights`, which it changes in place.

    Args:
        rate: The learning rate after 100 steps, to which it grows.
        decay: The share of its size, in learning rates, that a weight loses in a step.
    """

    def __init__(self, weights: Tensor, rate: float, decay: float) -> None:
        self.weights, self.average = weights, weights.clone()
        self._first, self._second = torch.zeros_like(weights), torch.zeros_like(weights)
        self._read = _Rows(weights, weights, weights, weights)
        self._until = torch.zeros(len(weights), 1, dtype=torch.int64, device=weights.device)
        self._rate, self._decay = rate, decay

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 1 on."""
        return self._rate * min(1.0, step / _WARM_UP)

    @staticmethod
    def kept(step: int) -> float:
        """The share of the average that a step keeps: weights of step s count as s² (O. Shamir, T.
        Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", ICML 2013).
        """
        return (step + 1) / (step + 4)

    def read(self, places: Tensor, step: int) -> Tensor:
        """These rows as all steps before `step` left them (rows, dim), to take gradients of.

        `places` has each row's number once.
        """
        self._read = self._made_up(places, step - 1)
        return self._read.weights.requires_grad_()

    def take(self, places: Tensor, gradient: Tensor, step: int) -> None:
        """Do one step with the gradient of the rows that were read for it."""
        weights, average, first, second = self._read
        rate = self.rate(step)
        first.lerp_(gradient, 1 - BETAS[0])
        second.lerp_(gradient * gradient, 1 - BETAS[1])
        along = first / ((second / (1 - BETAS[1] ** step)).sqrt_() + _EPSILON)
        weights = weights.detach().mul_(1 - rate * self._decay)
        weights.sub_(along, alpha=rate / (1 - BETAS[0] ** step))
        average.lerp_(weights, 1 - self.kept(step))
        self._keep(places, _Rows(weights, average, first, second), step)

    def make_up_all(self, step: int) -> None:
        """Bring all rows to where they are after `step`."""
        every = torch.arange(len(self.weights), device=self.weights.device)
        for places in torch.split(every, _ROWS_AT_ONCE):
            self._keep(places, self._made_up(places, step), step)

    def state(self) -> list[Tensor]:
        """The state to go on from, without weights and average."""
        return [self._first, self._second, self._until]

    def go_back_to(self, state: list[Tensor]) -> None:
        """Go back to a `state`, wherever its tensors are."""
        self._first, self._second, self._until = (each.to(self.weights.device) for each in state)

    def _keep(self, places: Tensor, rows: "_Rows", step: int) -> None:
        self.weights[places], self.average[places] = rows.weights, rows.average
        self._first[places], self._second[places] = rows.first, rows.second
        self._until[places] = step

    def _made_up(self, places: Tensor, step: int) -> "_Rows":
        """A copy of these rows after `step`: the steps in which they rested had no gradients.

        After k of n such steps a weight is a·qᵏ + b·mᵏ: what decays, and what momentum still adds.
        """
        until = self._until[places].double()
        weights, average = self.weights[places], self.average[places]
        first, second = self._first[places], self._second[places]
        rested = step - until
        if not bool(rested.any()):
            return _Rows(weights, average, first, second)
        # Momentum ends within some twenty steps. Rate and corrections are those of their middle.
        since = (until + rested.clamp(max=8)).clamp(min=1)
        rate = self._rate * (since / _WARM_UP).clamp(max=1)
        run = self._run(torch.full_like(until, step)) - self._run(until)
        stays = (-self._decay * run / rested.clamp(min=1)).exp()
        along = first / ((second / (1 - BETAS[1] ** since).float()).sqrt_() + _EPSILON)
        scale = rate * _MOMENTUM / ((stays - _MOMENTUM) * (1 - BETAS[0] ** since))
        moved = along.mul_(scale.float())
        weights -= moved
        left = _product(until) / _product(torch.full_like(until, step))  # of all their `kept`
        kept = left ** (1 / rested.clamp(min=1))
        average *= left.float()
        average += weights * ((1 - kept) * _sum(stays, kept, rested)).float()
        average += moved * ((1 - kept) * _sum(_MOMENTUM, kept, rested)).float()
        weights *= (stays**rested).float()
        weights += moved.mul_((_MOMENTUM**rested).float())
        first *= (BETAS[0] ** rested).float()
        second *= (BETAS[1] ** rested).float()
        return _Rows(weights, average, first, second)

    def _run(self, step: Tensor) -> Tensor:
        """The sum of all learning rates up to `step`."""
        slow = step.clamp(max=_WARM_UP)
        return self._rate * (slow * (slow + 1) / (2 * _WARM_UP) + step - slow)


def _product(step: Tensor) -> Tensor:
    return (step + 2) * (step + 3) * (step + 4)


def _sum(one: Tensor | float, other: Tensor, count: Tensor) -> Tensor:
    """The sum over k from 1 to `count` of oneᵏ · otherᶜᵒᵘⁿᵗ⁻ᵏ."""
    apart = one - other
    equal = apart.abs() < 1e-9
    return torch.where(
        equal,
        count * one**count,
        one * (one**count - other**count) / torch.where(equal, 1.0, apart),
    )
