"""Linear: every output is a weighted sum of all inputs, the book's fully connected layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from runner.config.errors import one_of, problem
from runner.config.spec import Count, refuse
from runner.geometry import WHOLE, AnyShape, Features, Field, Shape, elements
from runner.layers import Layer
from runner.ops import Ops
from runner.weights import INITIALIZERS, Initializer, Kernels, Weight

if TYPE_CHECKING:
    import torch
    from torch import nn


def _drawn(weight: Initializer | Kernels) -> Initializer:
    if isinstance(weight, Kernels):
        refuse(f"an initializer, {one_of(INITIALIZERS)}", f"kernels ({weight})")
    return weight


class Linear(Layer):
    """A dense layer on a flat vector.

    Attributes:
        features: how many outputs.
        bias: whether each output has a learnable bias.
        weight: the initializer (`runner.weights`).
        trainable: whether learning may change the weight and the bias.
    """

    features: Count
    bias: bool = True
    weight: Annotated[Weight, AfterValidator(_drawn)] = Initializer("default")
    trainable: bool = True

    def output_shape(self, x: AnyShape) -> Features:
        """`features`, whatever came in."""
        if isinstance(x, Shape):
            raise problem(
                "",
                "a flat vector as input of a linear layer",
                f"feature maps of {x}",
                f"Put a flatten layer before it; it gives {elements(x)} features.",
            )
        return Features(self.features)

    def parameters(self, x: AnyShape) -> int:
        """Features · inputs, and one bias per output."""
        return self.features * (elements(x) + self.bias)

    def cost(self, x: AnyShape) -> int:
        """Features · inputs."""
        return self.features * elements(x)

    def field(self, x: AnyShape, field: Field) -> Field:
        """The whole input."""
        return WHOLE

    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """A `torch.nn.Linear` with its weights drawn from `generator`."""
        from torch import nn

        from runner import modules

        weight = modules.draw(self.weight, (self.features, elements(x)), generator)
        module = nn.Linear(elements(x), self.features, self.bias, device="meta")
        module.weight = nn.Parameter(weight)
        if self.bias:
            module.bias = nn.Parameter(modules.draw_bias(None, weight, generator))
        return module.requires_grad_(self.trainable)
