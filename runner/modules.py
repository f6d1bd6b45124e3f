"""The torch modules behind conv and pool layers, and how weights are drawn."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from runner import autograd
from runner.geometry import ConvGeometry, PoolGeometry
from runner.ops import Auto, conv_op, pool_op
from runner.weights import Initializer, Kernels


class Conv2d(nn.Module):
    """Holds a kernel and slides it over its input with the chosen operator.

    Attributes:
        weight: c_out × c_in / groups × kh × kw.
        bias: c_out, or None.
        flip: whether the kernel is flipped before use (strict convolution).
        operator: computes it.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        geometry: ConvGeometry,
        pad_mode: str,
        flip: bool,
        op: str,
        trainable: bool,
        auto: Auto | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=trainable)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=trainable)
        self.geometry, self.pad_mode, self.flip = geometry, pad_mode, flip
        self.op = op
        self.operator = conv_op(op, auto)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve n × c_in × h × w to n × c_out × oh × ow."""
        return autograd.convolve(
            self.operator, x, self.weight, self.bias, self.geometry, self.pad_mode, self.flip
        )

    def effective_kernel(self) -> Tensor:
        """The kernel as cross-correlation sees it."""
        return self.weight.flip(2, 3) if self.flip else self.weight

    def extra_repr(self) -> str:
        """The shape and the operator, for `print(model)`."""
        return f"{tuple(self.weight.shape)}, op={self.op}"


class Pool2d(nn.Module):
    """Pools its input with the chosen operator.

    Attributes:
        operator: computes it.
    """

    def __init__(
        self, mode: str, geometry: PoolGeometry, op: str, auto: Auto | None = None
    ) -> None:
        super().__init__()
        self.mode, self.geometry, self.op = mode, geometry, op
        self.operator = pool_op(op, auto)

    def forward(self, x: Tensor) -> Tensor:
        """Pool n × c × h × w to n × c × oh × ow."""
        return autograd.pool(self.operator, x, self.mode, self.geometry)

    def extra_repr(self) -> str:
        """The mode and the operator, for `print(model)`."""
        return f"{self.mode}, op={self.op}"


class PerPixelLinear(nn.Linear):
    """A dense layer on the channels of every pixel: one matrix product."""

    def forward(self, x: Tensor) -> Tensor:
        """Take n × c × h × w to n × features × h × w."""
        y = torch.matmul(self.weight, x.flatten(2)).view(len(x), self.out_features, *x.shape[2:])
        return y if self.bias is None else y + self.bias[:, None, None]


class Masked(nn.Module):
    """Multiplies by a mask that is drawn elsewhere; in evaluation it does nothing.

    Attributes:
        mask: of the input's shape.
    """

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Dropout, once zeros and scaled ones were drawn."""
        return x * self.mask if self.training else x


def draw(
    weight: Initializer | Kernels, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """A layer's weights.

    Args:
        weight: how to find them.
        shape: outputs, inputs (per group), and the kernel's sizes if there are any.
        generator: the source of randomness.

    Returns:
        A tensor of that shape: given numbers in double, drawn ones in torch's default precision.
    """
    if isinstance(weight, Kernels):
        # In double precision, so that a float64 run loses nothing; the run converts the model.
        numbers = torch.tensor(weight.values, dtype=torch.float64)
        if weight.shared:
            # The bank is laid on every input channel, and on every group.
            numbers = numbers.repeat(shape[0] // weight.count, shape[1], 1, 1)
        return numbers
    empty = torch.empty(shape)
    given, init = weight.parameters, nn.init
    match weight.name:
        case "default":  # torch's own: kaiming_uniform with a = √5
            bound = 1 / sqrt(empty[0].numel())
            return init.uniform_(empty, -bound, bound, generator=generator)
        case "uniform":
            return init.uniform_(empty, given["low"], given["high"], generator=generator)
        case "normal":
            return init.normal_(empty, given["mean"], given["std"], generator=generator)
        case "constant":
            return init.constant_(empty, given["value"])
        case "zeros":
            return init.zeros_(empty)
        case "ones":
            return init.ones_(empty)
        case "xavier_uniform":
            return init.xavier_uniform_(empty, given["gain"], generator=generator)
        case "xavier_normal":
            return init.xavier_normal_(empty, given["gain"], generator=generator)
        case "kaiming_uniform":
            return init.kaiming_uniform_(empty, given["a"], generator=generator)
        case "kaiming_normal":
            return init.kaiming_normal_(empty, given["a"], generator=generator)
        case "orthogonal":
            return init.orthogonal_(empty, given["gain"], generator=generator)
    raise AssertionError(f"no initializer {weight.name}")


def draw_bias(
    given: tuple[float, ...] | None, weight: Tensor, generator: torch.Generator
) -> Tensor:
    """A layer's bias: the given numbers (one number serves all), or uniform in ±1/√fan_in."""
    outputs = weight.shape[0]
    if given is not None:
        return torch.tensor(given, dtype=torch.float64).expand(outputs).clone()
    bound = 1 / sqrt(weight[0].numel())
    empty = torch.empty(outputs)
    return nn.init.uniform_(empty, -bound, bound, generator=generator)


class Residual(nn.Sequential):
    """Modules one after the other; their input, or ``shortcut`` of it, is added in the end."""

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        y = x
        for name, module in self.named_children():
            if name != "shortcut":
                y = module(y)
        return y + (self.get_submodule("shortcut")(x) if "shortcut" in self._modules else x)


class Parallel(nn.Sequential):
    """Modules that all see the same input."""

    def forward(self, x: Tensor) -> Tensor:
        """All branches' channels, in order."""
        return torch.cat([branch(x) for branch in self.children()], dim=1)


class DenseBlock(nn.Sequential):
    """Modules that each see the input and what all modules before gave, concatenated."""

    def forward(self, x: Tensor) -> Tensor:
        """The input's channels, then those of every module."""
        for block in self.children():
            x = torch.cat([x, block(x)], dim=1)
        return x
