"""Every window becomes a column of a matrix, and the convolution one matrix product per group.

The textbook's way to let a fast matrix product compute a convolution (Chellapilla, Puri and Simard
2006), and Caffe's. It copies every pixel as often as windows see it: kh · kw times at stride 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from runner.geometry import ConvGeometry, Pair, Shape
from runner.ops import ConvOp, Gate, Operator

if TYPE_CHECKING:
    from torch import Tensor

MULTIPLY_ADDS, COPIED, CALL = 3e10, 1e9, 3e-5
"""Multiply-adds of a matrix product and numbers copied per second on one core, and seconds a call
takes besides; measured."""


class Im2colConv(ConvOp):
    """Cross-correlation as a matrix product."""

    gates: ClassVar[dict[str, Gate]] = {**Operator.gates, "float32": Gate(1.5e-6, 3e-6)}

    def scratch(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """The matrix, the padded input that it is copied from, and the product before it's sorted.

        All examples' windows stand in one matrix, so that this counts for each of them.
        """
        (kh, kw), (top, bottom, left, right) = geometry.kernel, geometry.padding
        padded = x.channels * (x.height + top + bottom) * (x.width + left + right)
        columns = x.channels * kh * kw * y.height * y.width
        return columns + padded * any(geometry.padding) + y.channels * y.height * y.width

    def estimate(self, x: Shape, y: Shape, geometry: ConvGeometry) -> float:
        """The copy and the product."""
        matrix = x.channels * geometry.kernel[0] * geometry.kernel[1] * y.height * y.width
        return CALL + matrix / COPIED + matrix * y.channels / geometry.groups / MULTIPLY_ADDS

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """The kernels, a row each, times the windows, a column each."""
        n, (oh, ow) = x.shape[0], geometry.output_size((x.shape[2], x.shape[3]))
        product = _rows(weight, geometry) @ columns(x, geometry)
        y = product.reshape(weight.shape[0], n, oh, ow).transpose(0, 1).contiguous()
        return y if bias is None else y.add_(bias[:, None, None])

    def input_gradient(
        self, grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry
    ) -> Tensor:
        """The columns' gradient is the transposed kernels times the output's; then folded."""
        gradient = _rows(weight, geometry).mT @ _by_window(grad, geometry)
        return fold(gradient, size, geometry, grad.shape[0])

    def weight_gradient(self, grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
        """The output's gradient times the transposed columns."""
        product = _by_window(grad, geometry) @ columns(x, geometry).mT
        shape = (grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel)
        return product.reshape(shape)


def columns(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """Every window as a column: im2col.

    For a 3×3 image and a 2×2 kernel it is 4×4: what each of 4 windows sees, to be multiplied by
    the kernel; the 4×9 matrix of the same correlation as a linear map (task=locality) holds the
    kernel's numbers instead, a row for each output, and multiplies the flattened image.

    Args:
        x: n × c_in × h × w.
        geometry: the windows.

    Returns:
        groups × (c_in / groups · kh · kw) × (n · oh · ow); windows in the order of the output,
        example by example, row by row.
    """
    import torch.nn.functional as F

    top, bottom, left, right = geometry.padding
    padded = F.pad(x, (left, right, top, bottom)) if any(geometry.padding) else x
    n, c_in = x.shape[:2]
    windows = _windows(padded, geometry).permute(1, 4, 5, 0, 2, 3)
    rows = c_in // geometry.groups * windows.shape[1] * windows.shape[2]
    return windows.reshape(geometry.groups, rows, n * windows.shape[4] * windows.shape[5])


def fold(gradient: Tensor, size: Pair, geometry: ConvGeometry, examples: int) -> Tensor:
    """Add every column back to its window: col2im, the transposed map of `columns`.

    Args:
        gradient: as `columns` gives them.
        size: h and w of the input.
        geometry: the windows.
        examples: n.

    Returns:
        n × c_in × h × w; where windows overlap their numbers are summed, in single precision at
        least; zero where there is none.
    """
    import torch

    (kh, kw), (oh, ow) = geometry.kernel, geometry.output_size(size)
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    top, bottom, left, right = geometry.padding
    c_in = gradient.shape[0] * gradient.shape[1] // (kh * kw)
    wide = torch.float32 if gradient.element_size() < 4 else gradient.dtype
    shape = (examples, c_in, top + size[0] + bottom, left + size[1] + right)
    padded = gradient.new_zeros(shape, dtype=wide)
    shares = gradient.reshape(c_in, kh, kw, examples, oh, ow).movedim(3, 0)
    for u in range(kh):
        for v in range(kw):
            rows = slice(u * dh, u * dh + (oh - 1) * sh + 1, sh)
            across = slice(v * dw, v * dw + (ow - 1) * sw + 1, sw)
            padded[:, :, rows, across] += shares[:, :, u, v]
    inside = padded[:, :, top : top + size[0], left : left + size[1]]
    return inside.to(gradient.dtype).contiguous()


def _windows(padded: Tensor, geometry: ConvGeometry) -> Tensor:
    """A view: n × c_in × oh × ow × kh × kw."""
    (eh, ew), (sh, sw), (dh, dw) = geometry.extent, geometry.stride, geometry.dilation
    return padded.unfold(2, eh, sh).unfold(3, ew, sw)[..., ::dh, ::dw]


def _rows(weight: Tensor, geometry: ConvGeometry) -> Tensor:
    """Every kernel as a row: groups × (c_out / groups) × (c_in / groups · kh · kw)."""
    return weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, -1)


def _by_window(grad: Tensor, geometry: ConvGeometry) -> Tensor:
    """A map's numbers in the order of the columns: groups × (c_out / groups) × (n · oh · ow)."""
    per_group = grad.shape[1] // geometry.groups
    return grad.transpose(0, 1).reshape(geometry.groups, per_group, -1)
