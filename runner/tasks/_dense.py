"""A stack as one dense layer: where its outputs lie on the image, and its weights by offset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.config.errors import problem
from runner.geometry import AnyShape, Pair, Shape
from runner.plan import Plan
from runner.tasks._interior import interior
from runner.tasks._rounding import same
from runner.tracking.pictures import LARGEST

Array = NDArray[np.float64]

BLOCKS, SIDE = 8, 480
"""Blocks of the picture of V along each axis, at most, and its pixels, about."""


@dataclass(frozen=True)
class Layout:
    """Where a stack's outputs lie on its input.

    Attributes:
        input: shape of an image.
        output: shape of the outputs; features are laid out as the image.
        stride: pixels between neighbouring outputs, down and across.
        inner: rows and columns of the outputs that see no padding; all of them where every output
            sees everything, or none sees no padding.
        field: height and width that one output can see, where it is not everything.
    """

    input: Shape
    output: Shape
    stride: Pair
    inner: tuple[list[int], list[int]]
    field: Pair | None

    @staticmethod
    def of(plan: Plan) -> Layout:
        """The places of a planned stack's outputs.

        Raises:
            ConfigError: features don't fill the image, or outputs lie between pixels.
        """
        output = _laid_out(plan)
        everywhere = (list(range(output.height)), list(range(output.width)))
        rows, columns = plan.field.axes()
        if rows is None or columns is None:
            return Layout(plan.input, output, (1, 1), everywhere, None)
        if rows.jump.denominator > 1 or columns.jump.denominator > 1:
            raise problem(
                plan.rows[-1].path,
                "outputs that lie a whole number of pixels apart",
                f"{float(rows.jump):.4g} down, {float(columns.jump):.4g} across",
                "Give adaptive pooling an output_size that divides the input's.",
            )
        inner = (
            interior(rows, output.height, plan.input.height),
            interior(columns, output.width, plan.input.width),
        )
        return Layout(
            plan.input,
            output,
            (int(rows.jump), int(columns.jump)),
            inner if all(inner) else everywhere,
            (rows.size, columns.size),
        )


def _laid_out(plan: Plan) -> Shape:
    shape: AnyShape = plan.output
    if isinstance(shape, Shape):
        return shape
    h, w = plan.input.size
    if shape.size % (h * w) == 0:
        return Shape(shape.size // (h * w), h, w)
    raise problem(
        plan.rows[-1].path,
        f"feature maps, or features for an image like the input: a multiple of {h}·{w} = {h * w}",
        f"{shape.size} features",
        f"Give the last layer {h * w} features, or remove flatten and what follows it.",
    )


@dataclass(frozen=True)
class Weights:
    """The matrix of a dense layer, W, seen as V[i, j, a, b] = W[i, j, i + a, j + b].

    Outputs that lie `stride` pixels apart have their own place at stride · i. Only outputs that
    see no padding are looked at: at the border, padding may fold weights together.

    Attributes:
        matrix: outputs × inputs.
        places: where the outputs lie.
        zero: weights up to this magnitude count as none.
        noise: weights that differ by up to this count as equal.
    """

    matrix: Array
    places: Layout
    zero: float
    noise: float

    @cached_property
    def _tensor(self) -> Array:
        """W[o, i, j, c, k, l]."""
        return self.matrix.reshape(*self.places.output.dims, *self.places.input.dims)

    @cached_property
    def _range(self) -> tuple[Array, Array]:
        """The least and the largest V of any output, by o, c and the offset; NaN where none is."""
        (_, h, w), (o, oh, ow) = self.places.input.dims, self.places.output.dims
        (down, across), (rows, columns) = self.places.stride, self.places.inner
        shape = (o, self.places.input.channels, h + down * (oh - 1), w + across * (ow - 1))
        least, largest = np.full(shape, np.inf), np.full(shape, -np.inf)
        for i in rows:
            for j in columns:
                top, left = down * (oh - 1 - i), across * (ow - 1 - j)
                at = np.s_[:, :, top : top + h, left : left + w]
                least[at] = np.minimum(least[at], self._tensor[:, i, j])
                largest[at] = np.maximum(largest[at], self._tensor[:, i, j])
        unseen = largest < least
        least[unseen] = largest[unseen] = np.nan
        return least, largest

    @property
    def several(self) -> bool:
        """Whether more than one output sees no padding: whether there is something to compare."""
        return prod(map(len, self.places.inner)) > 1

    def metrics(self) -> dict[str, Any]:
        """Where V is not zero, whether it is the same for all outputs, and how many weights it has.

        ``parameters`` are those of a dense layer, those that aren't zero, and those that are free:
        for a translation invariant layer, one for each V[o, c, a, b] that isn't zero. Whether it is
        translation invariant, and what is free, are left out where it can't be told.
        """
        (_, h, w), field = self.places.input.dims, self.places.field
        least, largest = self._range
        used = np.fmax(np.abs(least), np.abs(largest)) > self.zero
        down, across = np.nonzero(used.any(axis=(0, 1)))
        window = [int(np.ptp(at)) + 1 if at.size else 0 for at in (down, across)]
        origin = [
            s * (n - 1) for s, n in zip(self.places.stride, self.places.output.size, strict=True)
        ]
        offsets = np.concatenate([down - origin[0], across - origin[1]])
        spread = float(np.nanmax(largest - least))
        top = float(np.abs(self.matrix).max())
        invariant = same(spread, self.noise, top, self.zero) if self.several else None
        nonzero = int((np.abs(self.matrix) > self.zero).sum())
        free = {"free": int(used.sum()) if invariant else nonzero}
        if self.several and invariant is None:
            free = {}
        return {
            **({} if invariant is None else {"translation_invariant": invariant}),
            **({"deviation": spread / top if top else 0.0} if self.several else {}),
            "local": prod(window) < h * w,
            "window": window,
            "radius": int(np.abs(offsets).max(initial=0)),
            **({"receptive_field": list(field)} if field else {}),
            "parameters": {
                "dense": self.matrix.size,
                "nonzero": nonzero,
                **free,
            },
        }

    def blocks(self) -> Array:
        """A picture of V: at each output's place a block, its weights over the whole image.

        Of many outputs some, evenly spaced; of several channels the first. Between the blocks are
        lines of NaN.
        """
        _, oh, ow = self.places.output.dims
        _, h, w = self.places.input.dims
        rows, columns = _some(oh, h), _some(ow, w)
        larger = max(1, ceil(SIDE / max(len(rows) * h, len(columns) * w)))
        lines = []
        for i in rows:
            blocks = [np.kron(self._tensor[0, i, j, 0], np.ones((larger, larger))) for j in columns]
            lines.append(_joined(blocks, axis=1))
        return _joined(lines, axis=0)


def _some(count: int, pixels: int) -> list[int]:
    """Up to so many of an axis's outputs that their blocks aren't shrunk."""
    most = max(1, min(count, BLOCKS, LARGEST // (pixels + 1)))
    return [round(i) for i in np.linspace(0, count - 1, most)]


def _joined(parts: list[Array], axis: int) -> Array:
    line = np.full_like(np.take(parts[0], [0], axis), np.nan)
    between = [piece for part in parts for piece in (line, part)]
    return np.concatenate([*between[1:]], axis)
