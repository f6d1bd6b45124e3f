"""Cross-correlation and its gradients on the CPU.

A weight that is infinite or NaN makes NaN of the zeros around the input, and in the input's
gradient of those around the output's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runner.geometry import ConvGeometry, Pair
from runner.ops._compiled import array, share
from runner.ops.direct import numba_conv_kernels as kernels


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """As `ConvOp.forward`."""
    oh, ow = geometry.output_size((x.shape[2], x.shape[3]))
    y = x.new_empty(x.shape[0], weight.shape[0], oh, ow)
    if bias is None:
        bias = weight.new_zeros(weight.shape[0])
    tensors = (array(_padded(x, geometry)), array(weight), array(bias), y.numpy())
    window = (*geometry.stride, *geometry.dilation, geometry.groups)
    share(
        lambda start, stop: kernels.correlate(*tensors, *window, start, stop),
        x.shape[0] * geometry.groups * oh,
    )
    return y


def input_gradient(grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry) -> Tensor:
    """As `ConvOp.input_gradient`."""
    if geometry.stride == (1, 1):
        return forward(grad, *_transposed(weight, geometry))
    c_in = weight.shape[1] * geometry.groups
    found = grad.new_empty(grad.shape[0], c_in, *size)
    tensors = (array(grad), array(weight), found.numpy())
    top, _, left, _ = geometry.padding
    window = (*geometry.stride, *geometry.dilation, top, left, geometry.groups)
    share(
        lambda start, stop: kernels.hand_back(*tensors, *window, start, stop),
        grad.shape[0] * geometry.groups * size[0],
    )
    return found


def weight_gradient(grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
    """As `ConvOp.weight_gradient`."""
    c_out = grad.shape[1]
    rows = grad.shape[0] * grad.shape[2]
    # The parts don't depend on the number of threads, and so neither does any bit of the result.
    parts = max(1, min(rows, 32 // c_out))
    shape = (c_out, x.shape[1] // geometry.groups, *geometry.kernel)
    sums = torch.zeros(parts, *shape, dtype=torch.float64)
    tensors = (array(grad), array(_padded(x, geometry)), sums.numpy())
    window = (*geometry.stride, *geometry.dilation, geometry.groups)
    share(
        lambda start, stop: kernels.correlate_gradient(*tensors, *window, start, stop),
        parts * c_out,
    )
    return sums.sum(dim=0).to(grad.dtype)


def _padded(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """The input with zeros around it; negative padding cuts off."""
    top, bottom, left, right = geometry.padding
    return F.pad(x, (left, right, top, bottom)) if any(geometry.padding) else x


def _transposed(weight: Tensor, geometry: ConvGeometry) -> tuple[Tensor, None, ConvGeometry]:
    """The correlation that gives the input's gradient at stride 1.

    Its kernels are flipped, channels change roles within each group, and its windows are all those
    that overlap the output.
    """
    groups, (_, ins, kh, kw) = geometry.groups, weight.shape
    kernels_of = weight.reshape(groups, -1, ins, kh, kw).transpose(1, 2).flip(3, 4)
    (eh, ew), (top, bottom, left, right) = geometry.extent, geometry.padding
    padding = (eh - 1 - top, eh - 1 - bottom, ew - 1 - left, ew - 1 - right)
    full = ConvGeometry((kh, kw), (1, 1), padding, geometry.dilation, groups)
    return kernels_of.reshape(groups * ins, -1, kh, kw), None, full
