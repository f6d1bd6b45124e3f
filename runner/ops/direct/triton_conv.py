"""Cross-correlation and its gradients on CUDA: which kernel, in blocks of which size.

Sizes of blocks follow from the geometry by rules. Triton can also try several and keep the fastest
(`triton.autotune`), but would compile and time all of them for every new geometry, which takes
seconds where a convolution of few channels takes a millisecond.

A weight that is infinite or NaN makes NaN of the zeros around the input, and in the input's
gradient of those around and between the output's.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from runner.geometry import ConvGeometry, Pair
from runner.ops.direct import triton_conv_kernels as kernels
from runner.ops.direct import triton_weight_kernels as weight_kernels
from runner.ops.direct._triton import launch, number, power_of_two

WORTH_COMPILING = 1 << 16
"""Outputs from which on a small kernel gets code of its own, which takes seconds, once."""

REGISTERS = 64
"""32-bit numbers of a window, and of weights, that a thread may hold; it has 255 registers."""

LONGEST_SUM = 256
"""Products that are added up one by one; parts of that size are added up in float64."""

PROGRAMS = 2048
"""Some for each of a GPU's 100 to 200 processors, so that none waits for the last one."""


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """As `ConvOp.forward`."""
    size = geometry.output_size((x.shape[2], x.shape[3]))
    y = x.new_empty(x.shape[0], weight.shape[0], *size)
    if y.numel() >= WORTH_COMPILING and _slides(x, weight, geometry):
        _slide(x, weight, bias, y, geometry)
    else:
        _correlate(x, weight, bias, y, geometry)
    return y


def input_gradient(grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry) -> Tensor:
    """As `ConvOp.input_gradient`.

    It is a correlation of `grad` with the flipped kernels, whose windows are all those that overlap
    the output; where the stride is not 1, rows and columns of `grad` lie that far apart.
    """
    kernel, full = _transposed(weight, geometry)
    found = grad.new_empty(grad.shape[0], kernel.shape[0], *size)
    small = found.numel() < WORTH_COMPILING
    if small or geometry.stride != (1, 1) or not _slides(grad, kernel, full):
        _correlate(grad, kernel, None, found, full, spread=geometry.stride)
    else:
        _slide(grad, kernel, None, found, full)
    return found


def weight_gradient(grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
    """As `ConvOp.weight_gradient`."""
    weight = grad.new_empty(1).expand(
        grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel
    )
    # As many vectors of sums as of the window.
    if grad.numel() >= WORTH_COMPILING and _slides(x, weight, geometry, REGISTERS // 2):
        parts = _slide_products(grad, x, weight, geometry)
    else:
        parts = _products(grad, x, weight, geometry)
    return parts.sum(0, dtype=torch.float64).to(grad.dtype)


def _slide_products(grad: Tensor, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
    """Few weights: splits × the weight's shape."""
    (n, c_out, oh, ow), groups = grad.shape, geometry.groups
    rows, columns = min(8, power_of_two(oh)), min(256, max(32, power_of_two(ow)))
    blocks = n * triton.cdiv(oh, rows) * triton.cdiv(ow, columns)
    splits = max(triton.cdiv(PROGRAMS, c_out), triton.cdiv(blocks * rows, LONGEST_SUM))
    splits = max(1, min(splits, blocks))
    parts = _parts(splits, grad, weight)
    top, _, left, _ = geometry.padding
    launch(
        weight_kernels.slide_products,
        splits * c_out,
        *(grad.contiguous(), x.contiguous(), parts, blocks, splits),
        *(*x.shape[2:], c_out // groups, oh, ow, groups, top, left),
        *(*geometry.kernel, *geometry.stride, weight.shape[1]),
        ROWS=rows,
        COLUMNS=columns,
        NUMBER=number(grad.dtype),
        num_warps=min(4, columns // 32),
    )
    return parts


def _products(grad: Tensor, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
    """As above, for any weights."""
    (n, c_out, oh, ow), groups = grad.shape, geometry.groups
    ins, (kh, kw) = weight.shape[1], geometry.kernel
    taps = min(16, power_of_two(kh * kw))
    columns = min(max(32, power_of_two(ow)), 2048 // taps)
    blocks = c_out * ins * triton.cdiv(kh * kw, taps)
    products = n * oh * triton.cdiv(ow, columns)  # of one column and one weight
    splits = max(triton.cdiv(PROGRAMS, blocks), triton.cdiv(products, LONGEST_SUM))
    splits = max(1, min(splits, n * oh))
    parts = _parts(splits, grad, weight)
    launch(
        weight_kernels.products,
        splits * blocks,
        *(grad.contiguous(), x.contiguous(), parts, n * oh, splits),
        *(ins, *x.shape[2:], c_out // groups, oh, ow, groups),
        *_window(geometry),
        TAPS=taps,
        COLUMNS=columns,
        NUMBER=number(grad.dtype),
        num_warps=4,
    )
    return parts


def _parts(splits: int, grad: Tensor, weight: Tensor) -> Tensor:
    """Room for sums."""
    wide = torch.float64 if grad.dtype == torch.float64 else torch.float32
    return grad.new_empty(splits, *weight.shape, dtype=wide)


def _slides(x: Tensor, weight: Tensor, geometry: ConvGeometry, most: int = REGISTERS) -> bool:
    """Whether a window fits into registers, so that it can slide."""
    width = max(x.element_size() // 4, 1)
    return geometry.dilation == (1, 1) and weight[0].numel() * width <= most


def _slide(
    x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, geometry: ConvGeometry
) -> None:
    """Blocks of some rows, so that few rows are loaded twice, of as many channels as fit."""
    (n, _, oh, ow), groups = y.shape, geometry.groups
    outs, window = weight.shape[0] // groups, weight[0].numel() * max(x.element_size() // 4, 1)
    # Shared out evenly: six channels, at most four at a time, are three and three.
    blocks = triton.cdiv(outs, max(1, min(8, REGISTERS // window)))
    c_out = triton.cdiv(outs, blocks)
    rows = min(8, max(1, 16 // c_out), power_of_two(oh))
    columns = min(256, max(32, power_of_two(ow)))
    top, _, left, _ = geometry.padding
    launch(
        kernels.slide,
        n * groups * blocks * triton.cdiv(oh, rows) * triton.cdiv(ow, columns),
        *(x.contiguous(), weight.contiguous(), bias, y),
        *(*x.shape[2:], outs, oh, ow, groups, top, left),
        *(*geometry.kernel, *geometry.stride, weight.shape[1]),
        C_OUT=c_out,
        ROWS=rows,
        COLUMNS=columns,
        NUMBER=number(x.dtype),
        num_warps=min(4, columns // 32),
    )


def _correlate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    y: Tensor,
    geometry: ConvGeometry,
    spread: Pair = (1, 1),
) -> None:
    """Blocks of 512 outputs, as wide as the image is, up to 128 columns."""
    (n, c_out, oh, ow), groups = y.shape, geometry.groups
    columns = min(128, max(16, power_of_two(ow)))
    rows = min(512 // columns, power_of_two(oh))
    launch(
        kernels.correlate,
        n * c_out * triton.cdiv(oh, rows) * triton.cdiv(ow, columns),
        *(x.contiguous(), weight.contiguous(), bias, y),
        *(weight.shape[1], *x.shape[2:], c_out // groups, oh, ow, groups),
        *_window(geometry),
        *spread,
        ROWS=rows,
        COLUMNS=columns,
        NUMBER=number(x.dtype),
        num_warps=4,
    )


def _window(geometry: ConvGeometry) -> tuple[Any, ...]:
    """The kernel's size, stride, dilation, and padding above and on the left."""
    top, _, left, _ = geometry.padding
    return (*geometry.kernel, *geometry.stride, *geometry.dilation, top, left)


def _transposed(weight: Tensor, geometry: ConvGeometry) -> tuple[Tensor, ConvGeometry]:
    """Flipped kernels, whose channels change roles within each group, and their windows."""
    groups, (_, ins, kh, kw) = geometry.groups, weight.shape
    flipped = weight.reshape(groups, -1, ins, kh, kw).transpose(1, 2).flip(3, 4)
    (eh, ew), (top, bottom, left, right) = geometry.extent, geometry.padding
    padding = (eh - 1 - top, eh - 1 - bottom, ew - 1 - left, ew - 1 - right)
    full = ConvGeometry((kh, kw), (1, 1), padding, geometry.dilation, groups)
    return flipped.reshape(groups * ins, -1, kh, kw), full
