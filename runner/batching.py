"""Several calls of the registered operators as one: their rules for `torch.vmap`.

Batched examples are just more examples. Batched kernels are more output channels of one
convolution where all see the same input, and otherwise groups of channels that are convolved
separately. Either way the operator that was chosen computes; `auto` chooses as for a single call.

A grouped convolution pays where a call takes longer than its computation: operators are at their
best with many channels per group, and gathering inputs into groups copies them. From `GROUPED`
multiply-adds on, calls are made one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from runner import autograd
from runner.geometry import ConvGeometry
from runner.ops import ConvOp

GROUPED = 2**18
"""Multiply-adds of a call below which several become one grouped convolution."""

Dims = Sequence[int | None]
"""The batched dimension of each argument; None where it isn't batched."""

_RUNNER: Any = torch.ops.runner  # torch leaves its operators untyped


def _conv2d(
    info: Any, dims: Dims, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> tuple[Tensor, int]:
    *window, handle = rest
    together: int = info.batch_size
    x_dim, weight_dim, bias_dim, *_ = dims
    geometry = autograd.conv_geometry(_single(weight, weight_dim).shape[2:], window)
    op = autograd.conv_by_handle(handle)
    op = op.pick(_single(x, x_dim), _single(weight, weight_dim), geometry)
    if x_dim is not None and weight_dim is None and bias_dim is None:
        y = autograd.computed(op, x.movedim(x_dim, 0).flatten(0, 1), weight, bias, geometry)
        return _apart(y, 0, together), 0
    weights = _each(weight, weight_dim, together)
    biases = None if bias is None else _each(bias, bias_dim, together)
    if x_dim is None and geometry.groups == 1:
        return _as_channels(op, x, weights, biases, geometry), 1
    xs = _each(x, x_dim, together)
    many = replace(geometry, groups=together * geometry.groups)
    if _small(xs[0], weights[0], geometry) and not autograd.reasons(op, x, many):
        return _as_channels(op, xs.movedim(0, 1).flatten(1, 2), weights, biases, many), 1
    alone = [None] * together if biases is None else biases.unbind()
    calls = zip(xs.unbind(), weights.unbind(), alone, strict=True)
    return torch.stack([autograd.computed(op, *call, geometry) for call in calls]), 0


def _as_channels(
    op: ConvOp, x: Tensor, weights: Tensor, biases: Tensor | None, geometry: ConvGeometry
) -> Tensor:
    """All kernels' outputs, n × kernels × c_out × oh × ow, by one convolution."""
    bias = None if biases is None else biases.flatten()
    y = autograd.computed(op, x, weights.flatten(0, 1), bias, geometry)
    return _apart(y, 1, len(weights))


def _small(x: Tensor, weight: Tensor, geometry: ConvGeometry) -> bool:
    h, w = geometry.output_size((x.shape[2], x.shape[3]))
    return x.shape[0] * h * w * weight.numel() <= GROUPED


def _pool2d(
    info: Any, dims: Dims, x: Tensor, mode: str, *rest: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, None]]:
    *windows, _keep, handle = rest
    geometry = autograd.pool_geometry(windows)
    assert dims[0] is not None  # nothing else can be batched
    x = x.movedim(dims[0], 0)
    op = autograd.pool_by_handle(handle).pick(x[0], mode, geometry)
    y = autograd.pooled(op, x.flatten(0, 1), mode, geometry)
    # What the gradient needs was kept when the pooling was computed.
    unused = x.new_empty(0, dtype=torch.uint8)
    return (_apart(y, 0, info.batch_size), unused), (0, None)


def _one_by_one(operator: Any, info: Any, dims: Dims, *given: Any) -> tuple[Tensor, int]:
    """The gradients' own rule: they are batched only where somebody asks for many at once."""
    calls = (
        [g if d is None else g.select(d, i) for g, d in zip(given, dims, strict=True)]
        for i in range(info.batch_size)
    )
    return torch.stack([operator(*call) for call in calls]), 0


def _apart(tensor: Tensor, dim: int, together: int) -> Tensor:
    """A dimension of several calls' numbers as two."""
    shape = tensor.shape
    return tensor.reshape(*shape[:dim], together, shape[dim] // together, *shape[dim + 1 :])


def _single(tensor: Tensor, dim: int | None) -> Tensor:
    return tensor if dim is None else tensor.select(dim, 0)


def _each(tensor: Tensor, dim: int | None, together: int) -> Tensor:
    """The batched dimension in front; what isn't batched is repeated."""
    return tensor.expand(together, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


_RULES: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "pool2d": _pool2d,
    "conv2d_input_gradient": partial(_one_by_one, _RUNNER.conv2d_input_gradient),
    "conv2d_weight_gradient": partial(_one_by_one, _RUNNER.conv2d_weight_gradient),
    "pool2d_input_gradient": partial(_one_by_one, _RUNNER.pool2d_input_gradient),
}
for _name, _rule in _RULES.items():
    torch.library.register_vmap(f"runner::{_name}", _rule, lib=autograd.LIBRARY)
