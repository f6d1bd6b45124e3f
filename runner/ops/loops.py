"""The definition, written out: a window slides over the input, position by position.

This is the book's `corr2d` and `pool2d` (6.2.1, 6.5.1), generalised to batches, channels, stride,
uneven padding, dilation and groups, with the gradients beside them. It is slow, works in any
floating-point precision, and is the specification that every other operator is tested against.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.geometry import ConvGeometry, Pair, PoolGeometry, Shape
from runner.ops import ConvOp, PoolOp

if TYPE_CHECKING:
    from torch import Tensor

Window = tuple[slice, slice]


class LoopsConv(ConvOp):
    """Cross-correlation as two loops over the output's positions."""

    def workspace(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """A padded copy of the input."""
        top, bottom, left, right = geometry.padding
        return x.channels * (x.height + top + bottom) * (x.width + left + right)

    def scratch(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """One window times every kernel."""
        per_group = x.channels // geometry.groups
        return y.channels * per_group * geometry.kernel[0] * geometry.kernel[1]

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """Each output is the sum of a window times the kernel."""
        oh, ow = geometry.output_size((x.shape[2], x.shape[3]))
        padded, weight = _pad(_wide(x), geometry), _wide(weight)
        y = padded.new_zeros(x.shape[0], weight.shape[0], oh, ow)
        for inputs, outputs in _groups(x.shape[1], weight.shape[0], geometry.groups):
            kernel = weight[outputs]
            for i, j, (rows, columns) in _windows(oh, ow, geometry):
                window = padded[:, None, inputs, rows, columns]
                y[:, outputs, i, j] = (window * kernel).sum(dim=(2, 3, 4))
        if bias is not None:
            y += bias[:, None, None]
        return y.to(x.dtype)

    def input_gradient(
        self, grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry
    ) -> Tensor:
        """Each output hands its gradient back to its window, weighted by the kernel."""
        c_in, (h, w), dtype = weight.shape[1] * geometry.groups, size, grad.dtype
        grad, weight = _wide(grad), _wide(weight)
        padded = _pad(grad.new_zeros(grad.shape[0], c_in, h, w), geometry)
        for inputs, outputs in _groups(c_in, weight.shape[0], geometry.groups):
            kernel = weight[outputs]
            for i, j, (rows, columns) in _windows(grad.shape[2], grad.shape[3], geometry):
                share = grad[:, outputs, i, j, None, None, None]
                padded[:, inputs, rows, columns] += (share * kernel).sum(dim=1)
        top, _, left, _ = geometry.padding
        return padded[:, :, top : top + h, left : left + w].to(dtype, copy=True)

    def weight_gradient(self, grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
        """Each window adds itself to the kernel's gradient, weighted by its output's."""
        c_in, c_out, dtype = x.shape[1], grad.shape[1], grad.dtype
        grad, padded = _wide(grad), _pad(_wide(x), geometry)
        found = grad.new_zeros(c_out, c_in // geometry.groups, *geometry.kernel)
        for inputs, outputs in _groups(c_in, c_out, geometry.groups):
            for i, j, (rows, columns) in _windows(grad.shape[2], grad.shape[3], geometry):
                window = padded[:, None, inputs, rows, columns]
                share = grad[:, outputs, i, j, None, None, None]
                found[outputs] += (share * window).sum(dim=0)
        return found.to(dtype)


class LoopsPool(PoolOp):
    """Pooling as two loops over the output's positions."""

    def forward(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        """Each output is the largest, smallest or mean number of a window."""
        size = (x.shape[2], x.shape[3])
        y = x.new_zeros(*x.shape[:2], *geometry.output_size(size))
        for i, j, (rows, columns), count in _pool_windows(size, geometry):
            window = x[:, :, rows, columns].flatten(2)
            if mode == "avg":
                y[:, :, i, j] = (_wide(window).sum(dim=2) / count).to(y.dtype)
            else:
                y[:, :, i, j] = window.amax(dim=2) if mode == "max" else window.amin(dim=2)
        return y

    def input_gradient(
        self,
        grad: Tensor,
        x: Tensor | None,
        indices: Tensor | None,
        size: Pair,
        mode: str,
        geometry: PoolGeometry,
    ) -> Tensor:
        """An average shares its gradient out evenly; an extreme gives it to where it was found."""
        dtype, grad = grad.dtype, _wide(grad)
        found = grad.new_zeros(*grad.shape[:2], *size)
        for i, j, (rows, columns), count in _pool_windows(size, geometry):
            share = grad[:, :, i, j, None]
            if x is None:
                found[:, :, rows, columns] += (share / count)[..., None]
                continue
            window = x[:, :, rows, columns]
            flat = window.flatten(2)
            winner = (flat.max(dim=2) if mode == "max" else flat.min(dim=2)).indices[..., None]
            back = grad.new_zeros(flat.shape).scatter(2, winner, share)
            found[:, :, rows, columns] += back.reshape(window.shape)
        return found.to(dtype)


def _wide(x: Tensor) -> Tensor:
    """In single precision at least: sums in half precision lose digits, or exceed what it holds."""
    return x.float() if x.element_size() < 4 else x


def _pad(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """The input with zeros around it."""
    top, bottom, left, right = geometry.padding
    h, w = x.shape[2], x.shape[3]
    padded = x.new_zeros(*x.shape[:2], top + h + bottom, left + w + right)
    padded[:, :, top : top + h, left : left + w] = x
    return padded


def _groups(c_in: int, c_out: int, groups: int) -> Iterator[tuple[slice, slice]]:
    """The input and output channels of each group."""
    ins, outs = c_in // groups, c_out // groups
    for g in range(groups):
        yield slice(g * ins, (g + 1) * ins), slice(g * outs, (g + 1) * outs)


def _windows(oh: int, ow: int, geometry: ConvGeometry) -> Iterator[tuple[int, int, Window]]:
    """Every output position, and the rows and columns of the padded input that it looks at."""
    (sh, sw), (dh, dw), (eh, ew) = geometry.stride, geometry.dilation, geometry.extent
    for i in range(oh):
        for j in range(ow):
            yield i, j, (slice(i * sh, i * sh + eh, dh), slice(j * sw, j * sw + ew, dw))


def _pool_windows(
    size: tuple[int, int], geometry: PoolGeometry
) -> Iterator[tuple[int, int, Window, int]]:
    """Every output position, the part of the input it looks at, and what an average divides by."""
    for i, (top, bottom, rows) in enumerate(geometry.windows(size, 0)):
        for j, (left, right, columns) in enumerate(geometry.windows(size, 1)):
            yield i, j, (slice(top, bottom), slice(left, right)), rows * columns
