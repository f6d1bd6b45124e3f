"""Every window becomes a column of a matrix, and the convolution one matrix product per group.

The textbook's way to let a fast matrix product compute a convolution (Chellapilla, Puri and Simard
2006), and Caffe's. It copies every pixel as often as windows see it: kh · kw times at stride 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from runner.geometry import ConvGeometry, Pair, Shape, elements
from runner.ops import ConvOp, Gate, Operator

if TYPE_CHECKING:
    from torch import Tensor

CALL = 4e-6
"""Seconds that a call takes before it computes."""

MULTIPLY_ADDS, COPIED, COPIED_LARGE = 4e10, 2.5e9, 5e8
"""Multiply-adds of the matrix product, and numbers copied, in a second on one core, as measured."""

LARGE = 2**23
"""Numbers of a matrix from which on it gets memory anew from the system, page by page."""

PART = 1536
"""Products in a part of a long sum, at least; fewer than twice as many."""


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
        # In parts: a part's sums, and they and the total in numbers of twice the size.
        products = 4 if x.channels // geometry.groups * kh * kw >= 2 * PART else 1
        return columns + padded * any(geometry.padding) + products * elements(y)

    def estimate(self, x: Shape, y: Shape, geometry: ConvGeometry) -> float:
        """The copy and the product."""
        matrix = x.channels * geometry.kernel[0] * geometry.kernel[1] * y.height * y.width
        products = matrix * y.channels // geometry.groups
        copied = matrix / (COPIED if matrix < LARGE else COPIED_LARGE)
        return CALL + products / MULTIPLY_ADDS + copied

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """The kernels, a row each, times the windows, a column each."""
        n, (oh, ow) = x.shape[0], geometry.output_size((x.shape[2], x.shape[3]))
        product = _product(_rows(weight, geometry), columns(x, geometry))
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
        product = _product(_by_window(grad, geometry), columns(x, geometry).mT)
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


def _product(a: Tensor, b: Tensor) -> Tensor:
    """A matrix product per group; long sums in parts that are added in double precision.

    A matrix product adds up a small result's numbers one after the other: of the 273,280 products
    in the gradient of a Sobel kernel on a photo, single precision makes 5e-6 of error.
    """
    import torch

    parts = a.shape[2] // PART
    if parts < 2:
        return a @ b
    wide = torch.float32 if a.device.type == "mps" else torch.float64  # which mps doesn't have
    total = a.new_zeros((*a.shape[:2], b.shape[2]), dtype=wide)
    for left, right in zip(a.tensor_split(parts, 2), b.tensor_split(parts, 1), strict=True):
        total += left @ right
    return total.to(a.dtype)


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
