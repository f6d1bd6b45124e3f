"""Cross-correlation and its gradients on the CPU: which loops, over which parts.

A weight that is infinite or NaN makes NaN of the zeros around the input, and in the input's
gradient of those around the output's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from runner.geometry import ConvGeometry, Pair
from runner.ops._compiled import array, empty, share
from runner.ops.direct import bands
from runner.ops.direct import numba_conv_kernels as kernels
from runner.ops.direct import numba_conv_sums as strips

PARTS = 64
"""Shares of the rows that the weight's gradient is added up in, at most."""

PIECES = 16
"""Pieces to share out among threads that should be there at least."""

MOST_SUMS = 2**20
"""Sums held in all parts together."""


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """As `ConvOp.forward`."""
    oh, ow = geometry.output_size((x.shape[2], x.shape[3]))
    y = empty((x.shape[0], weight.shape[0], oh, ow), x)
    if bias is None:
        bias = weight.new_zeros(weight.shape[0])
    tensors = (array(x), array(weight), array(bias), array(y))
    rows = bands.rows(weight.shape[1], oh, ow, geometry)
    ins, padded = weight.shape[1], any(geometry.padding)
    if bands.in_place(x.shape[3], ow, ins, geometry):
        compute, padded = strips.correlation(*geometry.kernel), False
    elif bands.unrolled(ins, geometry) and ow < bands.NARROW:
        compute = strips.narrow_correlation(*geometry.kernel)
    else:
        compute = kernels.correlate_any
    window = _window(geometry, rows, padded)
    share(
        lambda start, stop: compute(*tensors, window, start, stop),
        x.shape[0] * geometry.groups * -(-oh // rows),
        _cost(y, weight.shape[1], geometry),
    )
    return y


def input_gradient(grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry) -> Tensor:
    """As `ConvOp.input_gradient`."""
    if geometry.stride == (1, 1):
        return forward(grad, *_transposed(weight, geometry))
    found = empty((grad.shape[0], weight.shape[1] * geometry.groups, *size), grad)
    tensors = (array(grad), array(weight), array(found))
    top, _, left, _ = geometry.padding
    window = (*geometry.stride, *geometry.dilation, top, left, geometry.groups)
    share(
        lambda start, stop: kernels.hand_back(*tensors, window, start, stop),
        grad.shape[0] * geometry.groups * size[0],
        _cost(grad, weight.shape[1], geometry),
    )
    return found


def weight_gradient(grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
    """As `ConvOp.weight_gradient`."""
    n, c_out, oh, ow = grad.shape
    ins = x.shape[1] // geometry.groups
    rows = bands.rows(ins, oh, ow, geometry)
    # Parts and pieces don't depend on the number of threads: the result has the same bits for any.
    numbers = c_out * ins * geometry.kernel[0] * geometry.kernel[1]
    parts = max(1, min(n * -(-oh // rows), PARTS, MOST_SUMS // numbers))
    pieces = max(1, min(c_out // geometry.groups, PIECES // (parts * geometry.groups)))
    # NumPy's, here and for their sum: torch's threads would go on spinning beside these.
    sums = np.zeros((parts, c_out, ins, *geometry.kernel))
    tensors = (array(grad), array(x), sums)
    compute = kernels.weight_gradient(bands.unrolled(ins, geometry))
    window = _window(geometry, rows, any(geometry.padding))
    share(
        lambda start, stop: compute(*tensors, window, pieces, start, stop),
        parts * geometry.groups * pieces,
        _cost(grad, ins, geometry),
    )
    return torch.from_numpy(sums.sum(axis=0)).to(grad.dtype)


def _cost(y: Tensor, ins: int, geometry: ConvGeometry) -> float:
    """Microseconds on one core, roughly."""
    products = y.numel() * ins * geometry.kernel[0] * geometry.kernel[1]
    return 1e6 * bands.seconds(products, 2 * y.numel(), ins, geometry)


def _window(geometry: ConvGeometry, rows: int, padded: bool) -> tuple[int, ...]:
    """What the loops need to know besides the sizes of the arrays."""
    top, _, left, _ = geometry.padding
    return (*geometry.stride, *geometry.dilation, top, left, geometry.groups, rows, int(padded))


def _transposed(weight: Tensor, geometry: ConvGeometry) -> tuple[Tensor, None, ConvGeometry]:
    """The correlation that gives the input's gradient at stride 1.

    Its kernels are flipped, channels change roles within each group, and its windows are all those
    that overlap the output.
    """
    groups, (_, ins, kh, kw) = geometry.groups, weight.shape
    turned = weight.reshape(groups, -1, ins, kh, kw).transpose(1, 2).flip(3, 4)
    (eh, ew), (top, bottom, left, right) = geometry.extent, geometry.padding
    padding = (eh - 1 - top, eh - 1 - bottom, ew - 1 - left, ew - 1 - right)
    full = ConvGeometry((kh, kw), (1, 1), padding, geometry.dilation, groups)
    return turned.reshape(groups * ins, -1, kh, kw), None, full
