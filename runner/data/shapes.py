"""Squares, discs, bars and diagonals on a plain background, with known edges."""

from __future__ import annotations

from math import ceil, isqrt
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainValidator, model_validator
from pydantic import Field as Limited

from runner.config.errors import describe, did_you_mean, one_of, problem
from runner.config.numbers import Nested, array
from runner.data import Data, Images
from runner.data._fields import Brightness, Seed, Side
from runner.geometry import Shape

_NAMES = ("square", "disc", "bar", "diagonal")
_LEAST = 8  # pixels of a cell's shorter side; smaller discs are squares
_MOST = 8  # shapes, and colours for them

_COLORS = np.array(
    [
        (0.8, 0.1, 0.1),  # red
        (0.1, 0.6, 0.2),  # green
        (0.1, 0.3, 0.8),  # blue
        (0.9, 0.6, 0.0),  # orange
        (0.5, 0.2, 0.6),  # purple
        (0.0, 0.6, 0.7),  # teal
        (0.9, 0.4, 0.7),  # pink
        (0.4, 0.3, 0.1),  # brown
    ]
)


def _names(value: object) -> object:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= _MOST:
        expected = f"a list of 1 to {_MOST} shapes ({', '.join(_NAMES)})"
        raise problem("", expected, describe(value))
    for i, name in enumerate(value):
        if name not in _NAMES:
            hint = did_you_mean(name, _NAMES) if isinstance(name, str) else ""
            raise problem(f"[{i}]", one_of(_NAMES), describe(name), hint)
    return tuple(value)


def _brightness(value: object) -> Nested:
    numbers, shape = array(value)
    if len(shape) > 1 or not all(0 <= n <= 1 for n in np.ravel(numbers)):
        expected = "a brightness from 0 to 1, or a list with one for each shape"
        raise problem("", expected, describe(value))
    return numbers


class Shapes(Data):
    """Each shape in a cell of its own of a grid over the image, so that none touch.

    Pixels are either of a shape or not, without half tones: the edges are where `regions` change.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        shapes: which, in the order of the cells; a name may come again.
        background: brightness outside the shapes.
        foreground: brightness of the shapes, one for all or a list with one for each. Of no use
            in ``rgb``, where each shape has a colour of its own.
        placement: ``fixed``, in the middle of the cells; ``random``, in shuffled cells, of
            random size, place and direction; ``auto``, fixed for one image, random for several.
        images: how many.
        noise: standard deviation of Gaussian noise on every pixel and channel; the result is
            clipped to 0 … 1. The regions remain as without.
        seed: of placement and noise. They are drawn apart, and for each image apart: more images
            or noise leave the others as they were.
        color: ``gray``; ``binary``, 1 where gray, after noise, is at least 0.5, else 0; ``rgb``.
    """

    height: Side = 64
    width: Side = 64
    shapes: Annotated[
        tuple[Literal["square", "disc", "bar", "diagonal"], ...], BeforeValidator(_names)
    ] = ("square", "disc", "bar", "diagonal")
    background: Brightness = 1.0
    foreground: Annotated[float | tuple[float, ...], PlainValidator(_brightness)] = 0.0
    placement: Literal["auto", "fixed", "random"] = "auto"
    images: Annotated[int, Limited(ge=1, le=2**20)] = 1
    noise: Annotated[float, Limited(ge=0, le=10)] = 0.0
    seed: Seed = 0
    color: Literal["gray", "binary", "rgb"] = "gray"

    @model_validator(mode="after")
    def _fits(self) -> Shapes:
        rows, columns = self._grid()
        for name, size, cells in (("height", self.height, rows), ("width", self.width, columns)):
            if size < _LEAST * cells:
                expected = f"at least {_LEAST * cells}, {_LEAST} for each of {cells} shapes"
                raise problem(name, expected, str(size), "Or draw fewer shapes.")
        if isinstance(self.foreground, tuple) and len(self.foreground) != len(self.shapes):
            expected = f"a number, or {len(self.shapes)} of them, one for each shape"
            raise problem("foreground", expected, f"{len(self.foreground)} of them")
        return self

    def shape(self) -> Shape:
        """One gray channel, or three of colour."""
        return Shape(3 if self.color == "rgb" else 1, self.height, self.width)

    def count(self) -> int:
        """As many as `images` says."""
        return self.images

    def load(self) -> Images:
        """The images, and where their edges are; region i is the i-th shape, 0 the background."""
        regions = np.stack([self._regions(i) for i in range(self.images)])
        # One row per region, one column per channel, looked up by every pixel.
        x = np.moveaxis(self._paint()[regions], -1, 1)
        if self.noise:
            for i in range(self.images):
                x[i] += self._random("noise", i).normal(0, self.noise, x[i].shape)
            x = x.clip(0, 1)
        if self.color == "binary":
            x = (x >= 0.5).astype(np.float64)
        note = {"gray": "gray, 0 black to 1 white", "rgb": "red, green, blue, each 0 to 1"}
        return Images(
            np.ascontiguousarray(x),
            regions=regions,
            note=note.get(self.color, "binary: 1 where gray is at least 0.5"),
        )

    def _paint(self) -> NDArray[np.float64]:
        n = len(self.shapes)
        if self.color == "rgb":
            return np.vstack([np.full((1, 3), self.background), _COLORS[:n]])
        own = self.foreground if isinstance(self.foreground, tuple) else (self.foreground,) * n
        return np.array([self.background, *own])[:, None]

    def _regions(self, index: int) -> NDArray[np.int64]:
        regions = np.zeros((self.height, self.width), dtype=np.int64)
        rows, columns = self._grid()
        height, width = self.height // rows, self.width // columns
        cells = np.arange(rows * columns)
        random = self._is_random()
        generator = self._random("placement", index)
        if random:
            generator.shuffle(cells)
        side = min(height, width)
        for region, (name, cell) in enumerate(zip(self.shapes, cells, strict=False), start=1):
            size = 5 * side // 8
            top, left = (height - size) // 2, (width - size) // 2
            mask = _mask(name, size)
            if random:
                size = int(generator.integers(3 * side // 8, 7 * side // 8, endpoint=True))
                # A cell's first row and column stay empty, so that neighbours don't touch.
                top = int(generator.integers(1, height - size, endpoint=True))
                left = int(generator.integers(1, width - size, endpoint=True))
                mask = np.rot90(_mask(name, size), k=int(generator.integers(2)))
            top, left = top + height * int(cell // columns), left + width * int(cell % columns)
            regions[top : top + size, left : left + size][mask] = region
        return regions

    def _grid(self) -> tuple[int, int]:
        """Rows and columns of cells, as square as can be."""
        n = len(self.shapes)
        rows = isqrt(n)
        return (rows, ceil(n / rows))

    def _is_random(self) -> bool:
        return self.placement == "random" or (self.placement == "auto" and self.images > 1)

    def _random(self, what: Literal["placement", "noise"], index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(what == "noise"), index])


def _mask(name: str, size: int) -> NDArray[np.bool_]:
    """Which pixels of a size × size box a shape covers."""
    i = np.arange(size)
    rows, columns = i[:, None], i[None, :]
    if name == "square":
        return np.ones((size, size), dtype=np.bool_)
    if name == "disc":  # doubled, so that the middle of an even size is an integer too
        inside: NDArray[np.bool_] = (
            (2 * rows - size + 1) ** 2 + (2 * columns - size + 1) ** 2
        ) <= size**2
        return inside
    if name == "bar":  # as tall as the box, a quarter as wide, in its middle
        wide = max(1, size // 4)
        left = (size - wide) // 2
        return np.broadcast_to((columns >= left) & (columns < left + wide), (size, size))
    return abs(rows - columns) <= size // 8
