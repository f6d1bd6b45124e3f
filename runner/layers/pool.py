"""Pooling: a window slides over every channel and keeps its maximum, minimum or mean."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from runner.config.errors import describe, problem
from runner.config.fields import Padding, Size
from runner.geometry import (
    AnyShape,
    Field,
    PoolGeometry,
    Shape,
    adaptive_extent,
    adaptive_total,
    elements,
    resolve_padding,
)
from runner.layers import Layer, check_window, maps
from runner.ops import OpName, Ops, pool_op

if TYPE_CHECKING:
    import torch
    from torch import nn


class Pool(Layer):
    """Two-dimensional pooling; channels are pooled separately (the book, 6.5.3).

    Attributes:
        mode: ``max``, ``avg`` or ``min``.
        kernel: window height and width.
        stride: step of the window; default: the window's size, so that windows don't overlap.
        padding: positions added per side. They never win a maximum or minimum: they count as
            −∞ or +∞, not as zero.
        ceil_mode: keep a last window that hangs over the end.
        count_include_pad: averages divide by the window's positions in the padded input.
        output_size: instead of `kernel`: adaptive pooling to that many windows; 1 is global.
        ops: the operator for this layer alone; default: the stack's ``ops.pool``.
    """

    mode: Literal["max", "avg", "min"] = "max"
    kernel: Size | None = None
    stride: Size | None = None
    padding: Padding = (0, 0, 0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True
    output_size: Size | None = None
    ops: OpName | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Pool:
        if self.output_size is None and self.kernel is None:
            raise problem(
                "kernel",
                "a window size",
                "nothing",
                "Or give output_size for adaptive pooling; 1 is global.",
            )
        if self.output_size is not None:
            for name in ("kernel", "stride"):
                if getattr(self, name) is not None:
                    raise problem(
                        name,
                        "nothing beside output_size",
                        describe(getattr(self, name)),
                        "Adaptive pooling finds its windows by itself.",
                    )
            if self.padding != (0, 0, 0, 0):
                raise problem("padding", "0 beside output_size", describe(self.padding))
        return self

    def geometry(self, x: Shape) -> PoolGeometry:
        """The resolved windows for an input."""
        if self.output_size is not None:
            return PoolGeometry(output=self.output_size)
        assert self.kernel is not None  # _one_of_two
        return PoolGeometry(
            self.kernel,
            self.stride or self.kernel,
            resolve_padding(self.padding, self.kernel),
            self.ceil_mode,
            self.count_include_pad,
        )

    def output_shape(self, x: AnyShape) -> Shape:
        """The same channels; sizes by the book's formula, or `output_size`."""
        x = maps(x, "pool")
        geometry = self.geometry(x)
        if geometry.output is not None:
            for axis, n, m in zip(("height", "width"), x.size, geometry.output, strict=True):
                if m > n:
                    raise problem("output_size", f"{axis} at most {n}, the input's", str(m))
            return Shape(x.channels, *geometry.output)
        check_window(x, geometry.kernel, geometry.kernel, geometry.padding, geometry.stride)
        for axis, k, sides in zip(
            ("height", "width"),
            geometry.kernel,
            (geometry.padding[:2], geometry.padding[2:]),
            strict=True,
        ):
            if max(sides) >= k:
                raise problem(
                    "padding",
                    f"less than the kernel's {axis} {k}",
                    str(max(sides)),
                    "A window of nothing but padding has no maximum.",
                )
        return Shape(x.channels, *geometry.output_size(x.size))

    def operations(self, x: AnyShape) -> int:
        """C · o_h · o_w · p_h · p_w (the book, 6.5 exercise); adaptive windows as they are."""
        x = maps(x, "pool")
        geometry = self.geometry(x)
        if geometry.output is None:
            return elements(self.output_shape(x)) * geometry.kernel[0] * geometry.kernel[1]
        rows, columns = (adaptive_total(n, m) for n, m in zip(x.size, geometry.output, strict=True))
        return x.channels * rows * columns

    def field(self, x: AnyShape, field: Field) -> Field:
        """As a convolution of the same window; adaptive windows count with their largest."""
        x = maps(x, "pool")
        geometry = self.geometry(x)
        if geometry.output is None:
            return field.through(geometry.kernel, geometry.stride, geometry.padding[::2])
        widest = [adaptive_extent(n, m) for n, m in zip(x.size, geometry.output, strict=True)]
        jump = [Fraction(n, m) for n, m in zip(x.size, geometry.output, strict=True)]
        # Windows differ in size, but on average the first is centred (n / m − 1) / 2 pixels in.
        before = [(w - j) / 2 for w, j in zip(widest, jump, strict=True)]
        return field.through((widest[0], widest[1]), (jump[0], jump[1]), (before[0], before[1]))

    def workspace(self, x: AnyShape, ops: Ops) -> int:
        """What the operator allocates."""
        x = maps(x, "pool")
        return pool_op(self.operator(ops), ops.auto).workspace(
            x, self.output_shape(x), self.geometry(x)
        )

    def operator(self, ops: Ops) -> str:
        """The layer's own choice, or the stack's."""
        return self.ops or ops.pool

    def unsupported(self, x: AnyShape, ops: Ops, dtype: str, device: str) -> list[str]:
        """The operator's reasons."""
        geometry = self.geometry(maps(x, "pool"))
        return pool_op(self.operator(ops), ops.auto).unsupported(geometry, self.mode, dtype, device)

    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """A `runner.modules.Pool2d`."""
        from runner import modules

        geometry = self.geometry(maps(x, "pool"))
        return modules.Pool2d(self.mode, geometry, self.operator(ops), ops.auto)
