"""Activation: a nonlinear function of every number by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field as Limited
from pydantic import model_validator

from runner.config.errors import describe, problem
from runner.geometry import AnyShape
from runner.layers import Layer
from runner.ops import Ops

if TYPE_CHECKING:
    import torch
    from torch import nn

MODULES = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softplus": "Softplus",
    "identity": "Identity",
}


class Activation(Layer):
    """An elementwise function.

    Attributes:
        function: which one.
        slope: of `leaky_relu` for negative input; default 0.01.
    """

    function: Literal[
        "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus", "identity"
    ]
    slope: Annotated[float, Limited(ge=0)] | None = None

    @model_validator(mode="after")
    def _slope_has_a_use(self) -> Activation:
        if self.slope is not None and self.function != "leaky_relu":
            raise problem("slope", "nothing unless function is leaky_relu", describe(self.slope))
        return self

    def output_shape(self, x: AnyShape) -> AnyShape:
        """The input's."""
        return x

    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """The module of `torch.nn` that does it."""
        from torch import nn

        arguments = {} if self.slope is None else {"negative_slope": self.slope}
        module: nn.Module = getattr(nn, MODULES[self.function])(**arguments)
        return module
