"""How weights follow their gradient: what tasks that learn share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field as Limited
from pydantic import model_validator

from runner.config.errors import problem
from runner.config.spec import Spec
from runner.plan import Plan
from runner.tasks._selection import ADD_CONV

if TYPE_CHECKING:
    import torch
    from torch import nn

WITH_MOMENTUM = ("sgd", "rmsprop")


class Optimizer(Spec):
    """How weights follow their gradient.

    Attributes:
        name: one of torch's optimizers; ``sgd`` is plain gradient descent.
        lr: the learning rate.
        momentum: of sgd and rmsprop.
        weight_decay: how strongly weights are pulled to zero.
    """

    name: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] = "sgd"
    lr: Annotated[float, Limited(gt=0, le=1e30)] = 0.03  # torch takes no more than a float32
    momentum: Annotated[float, Limited(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Limited(ge=0)] = 0.0

    @model_validator(mode="after")
    def _momentum_has_a_use(self) -> Optimizer:
        if self.momentum and self.name not in WITH_MOMENTUM:
            raise problem(
                "momentum",
                f"0 with {self.name}",
                f"{self.momentum:g}",
                "Only " + " and ".join(WITH_MOMENTUM) + " have one.",
            )
        return self

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer."""
        from torch import optim

        kinds: dict[str, Any] = {
            "sgd": optim.SGD,
            "adam": optim.Adam,
            "adamw": optim.AdamW,
            "rmsprop": optim.RMSprop,
            "adagrad": optim.Adagrad,
        }
        options: dict[str, float] = {"lr": self.lr, "weight_decay": self.weight_decay}
        if self.name in WITH_MOMENTUM:
            options["momentum"] = self.momentum
        trainable = [p for p in parameters if p.requires_grad]
        optimizer: optim.Optimizer = kinds[self.name](trainable, **options)
        return optimizer

    def stepper(self, parameters: Iterator[nn.Parameter]) -> Callable[[], None]:
        """A function that takes one step, for problems so small that its own time counts.

        Plain gradient descent is done here, to the last bit as `torch.optim.SGD` does it: that
        class's bookkeeping takes longer than the forward pass over a small image.
        """
        import torch

        trainable = [p for p in parameters if p.requires_grad]
        if self.name != "sgd" or self.momentum:
            return self.build(iter(trainable)).step

        def step() -> None:
            with torch.no_grad():
                for weight in trainable:
                    gradient = weight.grad
                    if gradient is not None:
                        if self.weight_decay:
                            gradient = gradient.add(weight, alpha=self.weight_decay)
                        weight.add_(gradient, alpha=-self.lr)

        return step


class Diverged(RuntimeError):
    """Learning was stopped because the loss grew without bound."""


def check_trainable(plan: Plan) -> None:
    """There must be something to learn.

    Raises:
        ConfigError: no layer has weights that may change.
    """
    if not any(row.parameters and getattr(row.layer, "trainable", False) for row in plan.leaves()):
        raise problem(
            "stack.layers",
            "at least one trainable layer with weights",
            "none",
            ADD_CONV,
        )
