"""Steps of several runs' optimizers at once, on stacked weights: each with numbers of its own.

The formulas are those that torch's documentation gives for its optimizers, with torch's defaults
for what `Optimizer` doesn't set. The state is handed to each run's own torch optimizer before it
is saved, so that a checkpoint doesn't tell whether the run learned alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from runner.tasks._optimizer import Optimizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    State = dict[str, Tensor]

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
ALPHA = 0.99
EPS_ADAGRAD = 1e-10


class Updates:
    """The optimizers of several runs.

    Attributes:
        taken: steps so far.
        state: for each stacked weight, what its optimizer remembers, by torch's names.
    """

    def __init__(self, optimizers: Sequence[Optimizer], weights: Sequence[Tensor]) -> None:
        """`optimizers`, one per run, are of one kind; `weights` are runs × a weight's shape."""
        import torch

        self.kind = optimizers[0].name
        self.taken = 0
        self.numbers = torch.tensor(
            [[one.lr, one.weight_decay, one.momentum] for one in optimizers],
            dtype=torch.float64,
        )
        forgetful = not any(one.momentum for one in optimizers)
        names = [n for n in _REMEMBERED[self.kind] if not (forgetful and n == "momentum_buffer")]
        self.state: list[State] = [
            {name: torch.zeros_like(weight) for name in names} for weight in weights
        ]

    def set_rates(self, rates: Sequence[float]) -> None:
        """Give each run its learning rate."""
        import torch

        self.numbers[:, 0] = torch.tensor(rates, dtype=torch.float64)

    def step(self, weights: Sequence[Tensor]) -> None:
        """Change the weights, along the gradients that they carry."""
        import torch

        self.taken += 1
        with torch.no_grad():
            for weight, state in zip(weights, self.state, strict=True):
                if weight.grad is not None:
                    across = (-1, *[1] * (weight.dim() - 1))
                    # Rates are corrected in double precision, and rounded as torch rounds them.
                    numbers = [column.view(across) for column in self.numbers.unbind(1)]
                    _STEPS[self.kind](weight, weight.grad, state, self.taken, numbers)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the runs at these places."""
        index = list(places)
        self.numbers = self.numbers[index]
        self.state = [{k: one[index] for k, one in state.items()} for state in self.state]

    def hand_over(self, place: int, optimizer: torch.optim.Optimizer) -> None:
        """Put a run's part of the state into its own optimizer."""
        import torch

        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for parameter, state in zip(parameters, self.state, strict=True):
            own = {} if self.kind == "sgd" else {"step": torch.tensor(float(self.taken))}
            own |= {name: one[place].clone() for name, one in state.items()}
            if not self.numbers[place, 2]:
                own.pop("momentum_buffer", None)
            optimizer.state[parameter] = own
        # Its own parameters have no gradients. It only notes that it was called, which torch's
        # schedules look for.
        optimizer.step()


def _like(weight: Tensor, *numbers: Tensor) -> list[Tensor]:
    return [number.to(weight) for number in numbers]


def _sgd(p: Tensor, g: Tensor, state: State, _: int, numbers: list[Tensor]) -> None:
    lr, decay, momentum = _like(p, *numbers)
    p.sub_(lr * _carried(g + decay * p, state, momentum))


def _carried(change: Tensor, state: State, momentum: Tensor) -> Tensor:
    """The change, and what momentum carries over from those before."""
    buffer = state.get("momentum_buffer")
    return change if buffer is None else buffer.mul_(momentum).add_(change)


def _adam(p: Tensor, g: Tensor, state: State, t: int, numbers: list[Tensor]) -> None:
    lr, decay, _ = numbers
    _follow(p, g + decay.to(p) * p, state, t, lr)


def _adamw(p: Tensor, g: Tensor, state: State, t: int, numbers: list[Tensor]) -> None:
    lr, decay, _ = numbers
    p.mul_((1 - lr * decay).to(p))
    _follow(p, g, state, t, lr)


def _follow(p: Tensor, g: Tensor, state: State, t: int, lr: Tensor) -> None:
    """Kingma & Ba 2015."""
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.lerp_(g, 1 - BETA1)
    square.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
    below = (square.sqrt() / (1 - BETA2**t) ** 0.5).add_(EPS)
    p.sub_((lr / (1 - BETA1**t)).to(p) * mean / below)


def _rmsprop(p: Tensor, g: Tensor, state: State, _: int, numbers: list[Tensor]) -> None:
    lr, decay, momentum = _like(p, *numbers)
    g = g + decay * p
    square = state["square_avg"].mul_(ALPHA).addcmul_(g, g, value=1 - ALPHA)
    p.sub_(lr * _carried(g / square.sqrt().add_(EPS), state, momentum))


def _adagrad(p: Tensor, g: Tensor, state: State, _: int, numbers: list[Tensor]) -> None:
    lr, decay, _momentum = _like(p, *numbers)
    g = g + decay * p
    total = state["sum"].addcmul_(g, g)
    p.sub_(lr * g / total.sqrt().add_(EPS_ADAGRAD))


_STEPS: dict[str, Callable[..., None]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
}
_REMEMBERED = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "momentum_buffer"),
    "adagrad": ("sum",),
}
