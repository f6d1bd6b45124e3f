"""A conv or pool layer and the numbers that it meets in a run: what any operator makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from runner.geometry import ConvGeometry, Pair, adaptive_extent
from runner.ops import ConvOp, PoolOp

if TYPE_CHECKING:
    from torch import Tensor

    from runner.modules import Conv2d, Pool2d

FORWARD = "forward"
INPUT, WEIGHT, BIAS = "input_gradient", "weight_gradient", "bias_gradient"
"""What is computed, by the names that metrics have."""

STEPS, CHANNELS, GROUPS = 4, 8, 4
"""Of a crop: about so many windows along an axis; so many channels, or groups of several."""


@dataclass(frozen=True)
class Case:
    """A layer and its arguments.

    Attributes:
        module: says how it pads, flips or pools.
        geometry: its window; of a crop, with fewer groups.
        x: n × c_in × h × w.
        weight: c_out × c_in / groups × kh × kw; None for pooling.
        bias: c_out, or None.
        grad: n × c_out × oh × ow, the gradient with respect to the output.
    """

    module: Conv2d | Pool2d
    geometry: Any
    x: Tensor
    weight: Tensor | None
    bias: Tensor | None
    grad: Tensor

    @staticmethod
    def of(module: Conv2d | Pool2d, x: Tensor, grad: Tensor) -> Case:
        """A layer with its own weights."""
        from runner.modules import Pool2d

        if isinstance(module, Pool2d):
            return Case(module, module.geometry, x, None, None, grad)
        bias = None if module.bias is None else module.bias.detach()
        return Case(module, module.geometry, x, module.weight.detach(), bias, grad)

    @property
    def finite(self) -> bool:
        """Whether all that is given are numbers."""
        given = (self.x, self.weight, self.bias)
        return all(bool(one.isfinite().all()) for one in given if one is not None)

    def forward(self, op: ConvOp | PoolOp) -> Tensor:
        """The output, n × c_out × oh × ow."""
        import torch

        with torch.no_grad():
            return self._apply(op, self.x, self.weight, self.bias)

    def gradients(self, op: ConvOp | PoolOp) -> dict[str, Tensor]:
        """Those of Σ grad · output, as autograd finds them, by the names that metrics have.

        And the output: a pooling that is learned through computes it in another way, with indices.
        """
        import torch

        given = {INPUT: self.x, WEIGHT: self.weight, BIAS: self.bias}
        leaves = {
            name: None if one is None else one.detach().requires_grad_()
            for name, one in given.items()
        }
        with torch.enable_grad():
            y = self._apply(op, *leaves.values())
        wanted = {name: leaf for name, leaf in leaves.items() if leaf is not None}
        found = torch.autograd.grad(y, list(wanted.values()), self.grad)
        return {FORWARD: y.detach(), **dict(zip(wanted, found, strict=True))}

    def _apply(
        self, op: ConvOp | PoolOp, x: Tensor | None, weight: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        from runner import autograd
        from runner.modules import Pool2d

        module = self.module
        assert x is not None
        if isinstance(module, Pool2d):
            assert isinstance(op, PoolOp)
            return autograd.pool(op, x, module.mode, self.geometry)
        assert isinstance(op, ConvOp) and weight is not None
        return autograd.convolve(op, x, weight, bias, self.geometry, module.pad_mode, module.flip)

    def as_computed(self) -> tuple[Tensor, Tensor | None, Any]:
        """Input, kernel and window as an operator gets them: it knows padding by zeros alone."""
        import torch.nn.functional as F

        geometry, mode = self.geometry, str(getattr(self.module, "pad_mode", "zeros"))
        if mode == "zeros" or not any(geometry.padding):
            return self.x, self.weight, geometry
        top, bottom, left, right = geometry.padding
        padded = F.pad(self.x, (left, right, top, bottom), mode)
        return padded, self.weight, replace(geometry, padding=(0, 0, 0, 0))

    def double(self) -> Case:
        """The very same numbers in double precision, on the CPU: not every device has it."""
        return self._mapped(lambda one: one.cpu().double())

    def magnitudes(self) -> Case:
        """Without signs: what is added up, if nothing cancels.

        Extremes are where they are for the numbers with their signs.
        """
        found = self._mapped(lambda one: one.abs())
        return replace(found, x=self.x) if self._mode() in ("max", "min") else found

    def _mode(self) -> str | None:
        """How it pools, if it does."""
        return getattr(self.module, "mode", None)

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> Case:
        weight, bias = (None if one is None else function(one) for one in (self.weight, self.bias))
        x, grad = function(self.x), function(self.grad)
        return replace(self, x=x, weight=weight, bias=bias, grad=grad)

    def terms(self) -> dict[str, int]:
        """How many numbers are added up, at most, for one number of each result."""
        if self.weight is None:
            window = prod(self._window())
            return {FORWARD: window if self._mode() == "avg" else 1, INPUT: window}
        inputs, kernel = self.weight.shape[1], prod(self.weight.shape[2:])
        outputs = self.weight.shape[0] // self.geometry.groups
        places = self.grad.shape[0] * prod(self.grad.shape[2:])
        return {
            FORWARD: inputs * kernel + (self.bias is not None),
            INPUT: outputs * kernel,
            WEIGHT: places,
            BIAS: places,
        }

    def _window(self) -> Pair:
        """The largest window of a pool."""
        if self.geometry.output is None:
            kernel: Pair = self.geometry.kernel
            return kernel
        (h, w), (down, across) = self.x.shape[2:], self.geometry.output
        return adaptive_extent(h, down), adaptive_extent(w, across)

    def crop(self) -> Case:
        """A small part of it with the same windows: one example, few channels, few positions.

        The middle of the image, padded on all its sides as the whole image is. Adaptive windows
        depend on the image's size: there, all of it is kept.
        """
        geometry, weight, bias = self.geometry, self.weight, self.bias
        outputs = inputs = CHANNELS
        if weight is not None:
            groups = min(geometry.groups, GROUPS)
            inputs, outputs = (groups * one // geometry.groups for one in self._channels())
            outputs = min(outputs, CHANNELS) if groups == 1 else outputs
            geometry, weight = replace(geometry, groups=groups), weight[:outputs]
            bias = None if bias is None else bias[:outputs]
        x = self.x[:1, :inputs]
        if isinstance(geometry, ConvGeometry) or geometry.output is None:
            x = self._middle(x)
        oh, ow = geometry.output_size((x.shape[2], x.shape[3]))
        return Case(
            self.module, geometry, x, weight, bias, self.grad[:1, :outputs, :oh, :ow].contiguous()
        )

    def _channels(self) -> Pair:
        return self.x.shape[1], self.grad.shape[1]

    def _middle(self, x: Tensor) -> Tensor:
        """As much of an image as a few windows take, and more than is padded on any side."""
        geometry = self.geometry
        extent = geometry.extent if isinstance(geometry, ConvGeometry) else geometry.kernel
        for axis, (span, stride) in enumerate(zip(extent, geometry.stride, strict=True), 2):
            sides = geometry.padding[2 * axis - 4 : 2 * axis - 2]
            size = min(max(span + (STEPS - 1) * stride, max(sides) + 1), x.shape[axis])
            x = x.narrow(axis, (x.shape[axis] - size) // 2, size)
        return x
