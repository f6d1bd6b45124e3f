"""From an operator to a differentiable function: forward and gradients, joined for autograd.

Layers come here directly, because what they pass was validated when the stack was planned;
`runner.functional` validates first.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runner.geometry import ConvGeometry, PoolGeometry
from runner.ops import ConvOp, PoolOp


def convolve(
    op: ConvOp,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    pad_mode: str = "zeros",
    flip: bool = False,
) -> Tensor:
    """Compute a convolution whose arguments are known to be valid."""
    if flip:
        weight = weight.flip(2, 3)
    if pad_mode != "zeros" and any(geometry.padding):
        top, bottom, left, right = geometry.padding
        x = F.pad(x, (left, right, top, bottom), mode=pad_mode)
        geometry = ConvGeometry(
            geometry.kernel, geometry.stride, (0, 0, 0, 0), geometry.dilation, geometry.groups
        )
    if op.own_gradient:
        return op.forward(x, weight, bias, geometry)
    y: Tensor = _Convolve.apply(x, weight, bias, op, geometry)  # type: ignore[no-untyped-call]  # torch leaves apply untyped
    return y


def pool(op: PoolOp, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
    """Pool with arguments that are known to be valid."""
    if op.own_gradient:
        return op.forward(x, mode, geometry)
    y: Tensor = _Pool.apply(x, mode, op, geometry)  # type: ignore[no-untyped-call]  # as above
    return y


class _Convolve(torch.autograd.Function):
    """Joins an operator's forward and its two gradients for autograd."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, op: ConvOp, geometry: ConvGeometry
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.op, ctx.geometry = op, geometry
        return op.forward(x, weight, bias, geometry)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        return (
            ctx.op.input_gradient(grad, x, weight, ctx.geometry) if wants_x else None,
            ctx.op.weight_gradient(grad, x, weight, ctx.geometry) if wants_weight else None,
            grad.sum(dim=(0, 2, 3)) if wants_bias else None,
            None,
            None,
        )


class _Pool(torch.autograd.Function):
    """Joins an operator's pooling and its gradient for autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mode: str, op: PoolOp, geometry: PoolGeometry) -> Tensor:
        ctx.save_for_backward(x)
        ctx.mode, ctx.op, ctx.geometry = mode, op, geometry
        return op.forward(x, mode, geometry)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return ctx.op.input_gradient(grads[0], x, ctx.mode, ctx.geometry), None, None, None
