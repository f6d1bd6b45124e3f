"""The sliding window at one position, by the definition: what it sees and what it makes of it.

Windows are picked from the input by index arithmetic, sums are taken by NumPy in double precision,
so that what an operator computed can be held against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.geometry import ConvGeometry, Pair, PoolGeometry

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One input channel's part in a convolution's output.

    Attributes:
        channel: of the input.
        window: kh × kw numbers under the kernel.
        kernel: kh × kw, as it is laid on the window: flipped already, if it is flipped.
    """

    channel: int
    window: Array
    kernel: Array

    @property
    def products(self) -> Array:
        """Each number of the window times the kernel's."""
        return self.window * self.kernel

    @property
    def value(self) -> float:
        """The sum of the products."""
        return float(self.products.sum())


@dataclass(frozen=True)
class Step:
    """One position of a sliding window.

    Attributes:
        position: row and column of the output.
        channel: of the output.
        rows: of the input that the window's rows lie on; outside the input, they are padding.
        columns: likewise.
        padded: kh × kw, where the window lies on padding.
    """

    position: Pair
    channel: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    padded: NDArray[np.bool_]


@dataclass(frozen=True)
class ConvStep(Step):
    """One output of a convolution.

    Attributes:
        parts: one per input channel of the group.
        bias: that is added, or None.
    """

    parts: tuple[Part, ...]
    bias: float | None

    @property
    def value(self) -> float:
        """The sum over the channels, and the bias."""
        return sum(part.value for part in self.parts) + (self.bias or 0.0)

    @property
    def magnitude(self) -> float:
        """What rounding is measured against: the sum of the products' magnitudes."""
        products = sum(float(np.abs(part.products).sum()) for part in self.parts)
        return products + abs(self.bias or 0.0)


@dataclass(frozen=True)
class PoolStep(Step):
    """One output of pooling.

    Attributes:
        mode: ``max``, ``avg`` or ``min``.
        window: the numbers; NaN on padding.
        divisor: what an average is divided by.
    """

    mode: str
    window: Array
    divisor: int

    @property
    def total(self) -> float:
        """The sum of the window, padding left out."""
        return float(np.nansum(self.window))

    @property
    def value(self) -> float:
        """The largest, the smallest or the mean number."""
        if self.mode == "avg":
            return self.total / self.divisor
        return float(self.window[self.winner])

    @property
    def winner(self) -> Pair:
        """Row and column within the window of the extreme; the first of equals."""
        pick = np.nanargmax if self.mode == "max" else np.nanargmin
        row, column = divmod(int(pick(self.window)), self.window.shape[1])
        return (row, column)

    @property
    def winner_in_input(self) -> Pair:
        """Its row and column in the input."""
        row, column = self.winner
        return (self.rows[row], self.columns[column])

    @property
    def magnitude(self) -> float:
        """What rounding is measured against."""
        return float(np.nansum(np.abs(self.window))) / (self.divisor if self.mode == "avg" else 1)


def conv_step(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    geometry: ConvGeometry,
    pad_mode: str,
    position: Pair,
    channel: int,
) -> ConvStep:
    """One output of a convolution.

    Args:
        x: c_in × h × w.
        weight: c_out × c_in / groups × kh × kw, flipped already, if it is flipped.
        bias: c_out, or None.
        geometry: the window.
        pad_mode: what padding holds: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
        position: row and column of the output.
        channel: of the output.
    """
    starts = (position[a] * geometry.stride[a] - geometry.padding[2 * a] for a in (0, 1))
    rows, columns = (
        [start + geometry.dilation[a] * k for k in range(geometry.kernel[a])]
        for a, start in enumerate(starts)
    )
    ins, outs = x.shape[0] // geometry.groups, weight.shape[0] // geometry.groups
    first = channel // outs * ins
    windows, padded = picked(x[first : first + ins], rows, columns, pad_mode)
    kernels = weight[channel].astype(np.float64)
    return ConvStep(
        position,
        channel,
        tuple(rows),
        tuple(columns),
        padded,
        tuple(Part(first + c, windows[c], kernels[c]) for c in range(ins)),
        None if bias is None else float(bias[channel]),
    )


def pool_step(
    x: NDArray[Any], mode: str, geometry: PoolGeometry, position: Pair, channel: int
) -> PoolStep:
    """One output of pooling.

    Args:
        x: c × h × w.
        mode: ``max``, ``avg`` or ``min``.
        geometry: the windows.
        position: row and column of the output.
        channel: of the input and the output.
    """
    spans, divisor = [], 1
    for axis in (0, 1):
        start, stop, count = geometry.windows(x.shape[1:], axis)[position[axis]]
        if geometry.output is None:  # the whole window, padding included
            start = position[axis] * geometry.stride[axis] - geometry.padding[2 * axis]
            stop = start + geometry.kernel[axis]
        spans.append(list(range(start, stop)))
        divisor *= count
    rows, columns = spans
    window, padded = picked(x[channel][None], rows, columns)
    return PoolStep(
        position, channel, tuple(rows), tuple(columns), padded, mode, window[0], divisor
    )


def picked(
    x: NDArray[Any], rows: Sequence[int], columns: Sequence[int], pad_mode: str | None = None
) -> tuple[Array, NDArray[np.bool_]]:
    """Rows and columns of an input, some of them outside it.

    Args:
        x: c × h × w.
        rows: which; negative ones lie above the input.
        columns: which.
        pad_mode: what lies outside; None: nothing, NaN.

    Returns:
        The numbers, c × rows × columns, and where they are padding, rows × columns.
    """
    values = x[:, _source(rows, x.shape[1], pad_mode)]
    values = values[:, :, _source(columns, x.shape[2], pad_mode)].astype(np.float64)
    padded = _outside(rows, x.shape[1])[:, None] | _outside(columns, x.shape[2])
    if pad_mode in ("zeros", None):
        values[:, padded] = 0 if pad_mode else np.nan
    return values, padded


def _outside(positions: Sequence[int], n: int) -> NDArray[np.bool_]:
    return np.array([not 0 <= i < n for i in positions])


def _source(positions: Sequence[int], n: int, pad_mode: str | None) -> list[int]:
    """Where in the input each position's number comes from."""
    match pad_mode:
        case "reflect":  # about the centre of the first and of the last pixel
            return [n - 1 - abs(n - 1 - abs(i)) for i in positions]
        case "circular":
            return [i % n for i in positions]
    return [min(max(i, 0), n - 1) for i in positions]
