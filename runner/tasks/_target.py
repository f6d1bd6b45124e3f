"""The kernel to be found, and the error to be made small: what tasks that learn one share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from runner.config.errors import problem, under
from runner.config.spec import Spec
from runner.layers.conv import Conv
from runner.plan import Plan
from runner.stack import Stack
from runner.tasks import Run
from runner.weights import Kernels, Weight

if TYPE_CHECKING:
    from torch import Tensor


class Target(Spec):
    """The kernel to be found.

    Attributes:
        weight: by name, numbers or list, as a conv layer's; not drawn at random.
        mode: ``correlation`` or ``convolution``.
    """

    weight: Weight
    mode: Literal["correlation", "convolution"] = "correlation"

    def check(self, plan: Plan, stack: Stack) -> None:
        """The target must be given, and give the same shape as the stack.

        Raises:
            ConfigError: it isn't, or doesn't; under ``task.target``.
        """
        if not isinstance(self.weight, Kernels):
            raise problem(
                "task.target.weight",
                "a kernel by name or numbers",
                f"the initializer '{self.weight}'",
            )
        with under("task.target"):
            wanted = self.layer(stack).output_shape(plan.input)
        if wanted != plan.output:
            raise problem(
                "task.target",
                f"a target that gives {plan.output}, like the stack",
                f"{wanted}",
                "Give the stack's layers the target's size and channels.",
            )

    def layer(self, stack: Stack) -> Conv:
        """The target as a layer, laid on the data as the stack's only conv layer is."""
        fields: dict[str, Any] = {}
        only = only_conv(stack)
        if only is not None:
            same = ("stride", "padding", "pad_mode", "dilation", "groups")
            fields = {name: getattr(only, name) for name in same}
        return Conv.model_construct(
            kind="conv", weight=self.weight, mode=self.mode, bias=False, **fields
        )

    def build(self, run: Run) -> Any:
        """The target as a `runner.modules.Conv2d`, on the run's device."""
        module = self.layer(run.stack).build(run.plan.input, run.ops, run.generator)
        return module.to(run.x)


def squared_error(y: Tensor, wanted: Tensor, reduction: Literal["sum", "mean"]) -> Tensor:
    """Squared differences, added up or averaged."""
    squared = (y - wanted) ** 2
    return squared.sum() if reduction == "sum" else squared.mean()


def only_conv(stack: Stack) -> Conv | None:
    """The conv layer of a stack that is nothing else, or None."""
    layers = list(stack.layers.values())
    return layers[0] if len(layers) == 1 and isinstance(layers[0], Conv) else None
