"""Shapes, output sizes, padding rules, receptive fields and costs, in plain Python integers.

Nothing here allocates or imports torch, so an impossible stack is answered before anything heavy
is loaded, and absurd sizes (``padding=2**61``) can't overflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, gcd, prod

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


@dataclass(frozen=True)
class Shape:
    """Feature maps: channels × height × width, without the batch."""

    channels: int
    height: int
    width: int

    @property
    def dims(self) -> tuple[int, ...]:
        """The sizes as a tuple, in torch's order."""
        return (self.channels, self.height, self.width)

    @property
    def size(self) -> Pair:
        """Height and width."""
        return (self.height, self.width)

    def __str__(self) -> str:
        return "×".join(map(str, self.dims))


@dataclass(frozen=True)
class Features:
    """A flat vector of features, without the batch: what `flatten` gives and `linear` takes."""

    size: int

    @property
    def dims(self) -> tuple[int, ...]:
        """The size as a tuple."""
        return (self.size,)

    def __str__(self) -> str:
        return str(self.size)


AnyShape = Shape | Features


def elements(shape: AnyShape) -> int:
    """How many numbers a shape holds."""
    return prod(shape.dims)


def extent(kernel: int, dilation: int = 1) -> int:
    """How many input positions a kernel spans along one axis: d·(k − 1) + 1."""
    return dilation * (kernel - 1) + 1


def output_size(n: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Positions of a sliding window along one axis: ⌊(n + p − extent) / s⌋ + 1.

    This is the book's ⌊(n − k + p + s) / s⌋ (6.3.2), with dilation.

    Args:
        n: input size.
        kernel: window size.
        stride: step of the window.
        padding: rows or columns added on both sides together, the book's p.
        dilation: distance between the window's elements.

    Returns:
        The output size; zero or less when the window doesn't fit into the padded input.
    """
    return (n + padding - extent(kernel, dilation)) // stride + 1


def adaptive_extent(n: int, outputs: int) -> int:
    """The widest of the windows ⌊i·n/m⌋ to ⌈(i + 1)·n/m⌉ that share n positions among m outputs."""
    # Modulo m, the starts i·n run through the multiples of gcd(n, m); the last one is widest.
    return -(-(n - gcd(n, outputs)) // outputs) + 1


def adaptive_total(n: int, outputs: int) -> int:
    """The positions of those windows together; they overlap where m doesn't divide n."""
    # Neighbouring windows share a pixel wherever the bound i·n/m between them is not whole.
    return n + outputs - gcd(n, outputs)


def resolve_padding(rule: Sides | str, kernel: Pair, dilation: Pair = (1, 1)) -> Sides:
    """Turn a padding rule into rows and columns per side.

    Args:
        rule: sides already given, or ``valid``, ``same``, ``same_lower``.
        kernel: window height and width.
        dilation: distance between the window's elements, per axis.

    Returns:
        Top, bottom, left, right. Both ``same`` rules add extent − 1, so that at stride 1 the
        output is as large as the input; they differ in where the odd one goes.
    """
    if not isinstance(rule, str):
        return rule
    if rule == "valid":
        return (0, 0, 0, 0)
    (vertical, horizontal) = (extent(k, d) - 1 for k, d in zip(kernel, dilation, strict=True))
    top, left = vertical // 2, horizontal // 2
    if rule == "same_lower":
        top, left = vertical - top, horizontal - left
    return (top, vertical - top, left, horizontal - left)


@dataclass(frozen=True)
class ConvGeometry:
    """A convolution's window, fully resolved.

    Attributes:
        kernel: height and width of the kernel.
        stride: step down and across.
        padding: zeros added at the top, bottom, left and right.
        dilation: distance between kernel elements, down and across.
        groups: channel groups that are convolved separately.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def extent(self) -> Pair:
        """Rows and columns that the dilated kernel spans."""
        return (extent(self.kernel[0], self.dilation[0]), extent(self.kernel[1], self.dilation[1]))

    def output_size(self, size: Pair) -> Pair:
        """Output height and width for an input height and width."""
        top, bottom, left, right = self.padding
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.stride, self.dilation
        return (
            output_size(size[0], kh, sh, top + bottom, dh),
            output_size(size[1], kw, sw, left + right, dw),
        )


@dataclass(frozen=True)
class PoolGeometry:
    """A pooling layer's windows, fully resolved.

    Attributes:
        kernel: window height and width; unused when `output` is given.
        stride: step down and across.
        padding: positions added at the top, bottom, left and right. They never win a maximum and
            are counted by an average only with `count_include_pad`.
        ceil_mode: keep a last window that hangs over the padded input's end.
        count_include_pad: divide an average by the positions in the padded input, not in the input.
        output: adaptive pooling: as many windows as this, of whatever size that takes.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True
    output: Pair | None = None

    def output_size(self, size: Pair) -> Pair:
        """Output height and width for an input height and width."""
        return (self._count(size, 0), self._count(size, 1))

    def windows(self, size: Pair, axis: int) -> list[tuple[int, int, int]]:
        """Every window along one axis, clipped to the input.

        Args:
            size: input height and width.
            axis: 0 for rows, 1 for columns.

        Returns:
            Start, stop (exclusive) and the number of positions an average divides by.
        """
        n, before, after = size[axis], *self.padding[2 * axis : 2 * axis + 2]
        if self.output is not None:
            m = self.output[axis]
            spans = [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
            return [(start, stop, stop - start) for start, stop in spans]
        found = []
        for i in range(self._count(size, axis)):
            start = i * self.stride[axis] - before
            stop = start + self.kernel[axis]
            inside = (max(start, 0), min(stop, n))
            # A window may hang over the padding with ceil_mode; what hangs over is never counted.
            padded = min(stop, n + after) - max(start, -before)
            count = padded if self.count_include_pad else inside[1] - inside[0]
            found.append((*inside, count))
        return found

    def _count(self, size: Pair, axis: int) -> int:
        if self.output is not None:
            return self.output[axis]
        n, before, after = size[axis], *self.padding[2 * axis : 2 * axis + 2]
        k, s = self.kernel[axis], self.stride[axis]
        room = n + before + after - k
        count = (-(-room // s) if self.ceil_mode else room // s) + 1
        if self.ceil_mode and count > 1 and (count - 1) * s >= n + before:
            count -= 1  # a window that starts in the padding after the input would see nothing
        return max(count, 0)


@dataclass(frozen=True)
class Axis:
    """What one output position sees along one axis of the stack's input.

    Attributes:
        size: input positions that can influence it: the receptive field. After adaptive pooling
            whose windows differ, the most that any output sees.
        jump: input positions between two neighbouring outputs: the effective stride.
        start: where in the input the first output is centred; 0 is the first pixel's centre.
    """

    size: int = 1
    jump: Fraction = Fraction(1)
    start: Fraction = Fraction(0)

    def through(self, extent: int, stride: Fraction | int, before: Fraction | int) -> Axis:
        """The field after one more window of this extent, stride and padding before the first."""
        return Axis(
            size=self.size + ceil((extent - 1) * self.jump),
            jump=self.jump * stride,
            start=self.start + (Fraction(extent - 1, 2) - before) * self.jump,
        )


@dataclass(frozen=True)
class Field:
    """What one output position sees of the stack's input.

    Attributes:
        rows: down the image, or None when every output sees the whole input (after `linear`).
        columns: across the image, likewise.
    """

    rows: Axis | None = Axis()
    columns: Axis | None = Axis()

    def axes(self) -> Iterator[Axis | None]:
        """Rows, then columns."""
        yield self.rows
        yield self.columns

    def through(
        self,
        extent: Pair,
        stride: tuple[Fraction | int, Fraction | int],
        start: tuple[Fraction | int, Fraction | int],
    ) -> Field:
        """The field after one more window."""
        rows, columns = (
            None if axis is None else axis.through(e, s, p)
            for axis, e, s, p in zip(self.axes(), extent, stride, start, strict=True)
        )
        return Field(rows, columns)

    @staticmethod
    def union(fields: Sequence[Field], size: Pair) -> Field:
        """What an output sees that is made from the same output position of several branches.

        Args:
            fields: of the branches.
            size: height and width of the output.
        """
        rows = _union([field.rows for field in fields], size[0])
        return Field(rows, _union([field.columns for field in fields], size[1]))


def _union(branches: Sequence[Axis | None], count: int) -> Axis | None:
    axes = [axis for axis in branches if axis is not None]
    if len(axes) < len(branches):
        return None
    # First and last pixel that the first and the last output see; in between it is linear.
    spans = []
    for i in (0, count - 1):
        centres = [(axis.start + i * axis.jump, Fraction(axis.size - 1, 2)) for axis in axes]
        spans.append((min(c - r for c, r in centres), max(c + r for c, r in centres)))
    (low, high), (last_low, last_high) = spans
    start = (low + high) / 2
    jump = max(axis.jump for axis in axes)
    if count > 1:
        jump = ((last_low + last_high) / 2 - start) / (count - 1)
    return Axis(ceil(max(high - low, last_high - last_low)) + 1, jump, start)


WHOLE = Field(None, None)
"""The field of something that sees the whole input."""
