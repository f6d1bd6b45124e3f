"""The transforms between images and tiles, compiled.

Tiles are handled a strip of 64 at a time: gathered from one channel so that the same element of
neighbouring tiles lies side by side, then transformed down and across, 16 tiles to an instruction,
while they are in the first-level cache. The lines below are products with the constant matrices of
`matrices`, written out so that zeros cost nothing and common sums are computed once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.ops._compiled import compiled

Array = NDArray[Any]

STRIP = 64
"""Tiles transformed together. A constant, so that the compiler knows that lines don't overlap."""

Tiling = tuple[int, int, int, int, int, int, int, int]
"""Where tiles lie in images: the images' channels, height and width, the first channel that is
meant, rows and columns of tiles, and row and column where the first tile starts."""


@compiled
def to_products(
    x: Array,
    tiling: Tiling,
    m: int,
    first: int,
    count: int,
    found: Array,
    pitch: int,
    start: int,
    stop: int,
) -> None:
    """Bᵀ d B for every tile d of (m + 2) × (m + 2) inputs, m apart.

    Args:
        x: n × c × h × w, flat.
        tiling: of x.
        m: outputs of a tile along one axis, 2 or 4.
        first: the first tile.
        count: how many.
        found: (m + 2)² times channels × tiles, flat, filled.
        pitch: how far these begin from one another.
        start: of the strips to transform, counted channel by channel.
        stop: their end.
    """
    t = m + 2
    gathered, across = np.zeros(t * t * STRIP, x.dtype), np.zeros(t * t * STRIP, x.dtype)
    strips = -(-count // STRIP)
    for part in range(start, stop):
        channel, offset = part // strips, part % strips * STRIP
        length = min(STRIP, count - offset)
        # Sizes are written out so that the compiler unrolls their loops.
        if m == 4:
            _gather(x, tiling, channel, 6, 4, first + offset, length, gathered)
            _input_4(gathered, across)
            _input_4(across, gathered)
        else:
            _gather(x, tiling, channel, 4, 2, first + offset, length, gathered)
            _input_2(gathered, across)
            _input_2(across, gathered)
        _put(gathered, found, channel * count + offset, pitch, length)


@compiled
def outputs_to_products(
    grad: Array,
    tiling: Tiling,
    m: int,
    first: int,
    count: int,
    found: Array,
    pitch: int,
    start: int,
    stop: int,
) -> None:
    """A g Aᵀ for every tile g of m × m outputs: `from_products` transposed. As `to_products`."""
    t = m + 2
    gathered, across = np.zeros(t * t * STRIP, grad.dtype), np.zeros(t * t * STRIP, grad.dtype)
    strips = -(-count // STRIP)
    for part in range(start, stop):
        channel, offset = part // strips, part % strips * STRIP
        length = min(STRIP, count - offset)
        if m == 4:
            _gather(grad, tiling, channel, 4, 4, first + offset, length, gathered)
            _spread_4(gathered, across, 4)
            _spread_4(across, gathered, 6)
        else:
            _gather(grad, tiling, channel, 2, 2, first + offset, length, gathered)
            _spread_2(gathered, across, 2)
            _spread_2(across, gathered, 4)
        _put(gathered, found, channel * count + offset, pitch, length)


@compiled
def from_products(
    products: Array,
    places: Array,
    bias: Array,
    tiling: Tiling,
    m: int,
    first: int,
    count: int,
    y: Array,
    start: int,
    stop: int,
) -> None:
    """Aᵀ p A, plus the bias, for every tile p of products.

    Args:
        products: (m + 2)² times channels × tiles, flat.
        places: where in `products` each of these begins.
        bias: of every channel of y.
        tiling: of y.
        m: outputs of a tile along one axis, 2 or 4.
        first: the first tile.
        count: how many.
        y: n × c × oh × ow, flat, filled.
        start: of the strips to transform, counted channel by channel.
        stop: their end.
    """
    t = m + 2
    taken, across = np.zeros(t * t * STRIP, y.dtype), np.zeros(t * t * STRIP, y.dtype)
    strips = -(-count // STRIP)
    for part in range(start, stop):
        channel, offset = part // strips, part % strips * STRIP
        length = min(STRIP, count - offset)
        for element in range(t * t):
            at = places[element] + channel * count + offset
            for s in range(length):
                taken[element * STRIP + s] = products[at + s]
        if m == 4:
            _output_4(taken, across, 6)
            _output_4(across, taken, 4)
            _scatter(taken, tiling, channel, 4, first + offset, length, bias, y)
        else:
            _output_2(taken, across, 4)
            _output_2(across, taken, 2)
            _scatter(taken, tiling, channel, 2, first + offset, length, bias, y)


@compiled
def _gather(
    x: Array,
    tiling: Tiling,
    channel: int,
    size: int,
    step: int,
    first: int,
    length: int,
    found: Array,
) -> None:
    """Lay out tiles of size × size inputs, step apart, element by element; zeros outside x."""
    channels, h, w, base, rows, columns, down, right = tiling
    column, row = first % columns, first // columns % rows
    plane = (first // (columns * rows) * channels + base + channel) * h * w
    for s in range(length):
        top, left = down + row * step, right + column * step
        corner = plane + top * w + left
        if top >= 0 and left >= 0 and top + size <= h and left + size <= w:
            for i in range(size):
                for j in range(size):
                    found[(i * size + j) * STRIP + s] = x[corner + i * w + j]
        else:
            for i in range(size):
                for j in range(size):
                    inside = 0 <= top + i < h and 0 <= left + j < w
                    value = x[corner + i * w + j] if inside else x.dtype.type(0)
                    found[(i * size + j) * STRIP + s] = value
        column += 1
        if column == columns:
            column, row = 0, row + 1
            if row == rows:
                row, plane = 0, plane + channels * h * w


@compiled
def _put(taken: Array, found: Array, at: int, pitch: int, length: int) -> None:
    for element in range(len(taken) // STRIP):
        for s in range(length):
            found[element * pitch + at + s] = taken[element * STRIP + s]


@compiled
def _scatter(
    taken: Array,
    tiling: Tiling,
    channel: int,
    m: int,
    first: int,
    length: int,
    bias: Array,
    y: Array,
) -> None:
    """Lay tiles of m × m outputs where they belong; what hangs over the end is dropped."""
    channels, h, w, base, rows, columns, _, _ = tiling
    column, row = first % columns, first // columns % rows
    plane = (first // (columns * rows) * channels + base + channel) * h * w
    b = bias[base + channel]
    for s in range(length):
        top, left = row * m, column * m
        corner = plane + top * w + left
        if top + m <= h and left + m <= w:
            for i in range(m):
                for j in range(m):
                    y[corner + i * w + j] = taken[(i * m + j) * STRIP + s] + b
        else:
            for i in range(min(m, h - top)):
                for j in range(min(m, w - left)):
                    y[corner + i * w + j] = taken[(i * m + j) * STRIP + s] + b
        column += 1
        if column == columns:
            column, row = 0, row + 1
            if row == rows:
                row, plane = 0, plane + channels * h * w


# Lines -------------------------------------------------------------------------------------------
#
# Each multiplies every column of the tiles by its matrix and lays it down as a row: two in a row
# transform down and across, and leave the tiles the right way up.


@compiled
def _input_4(source: Array, target: Array) -> None:
    """Bᵀ of F(4, 3)."""
    kind = source.dtype.type  # a plain 4 would widen float32
    two, four, five = kind(2), kind(4), kind(5)
    for k in range(6):
        for s in range(STRIP):
            d0, d1 = source[k * STRIP + s], source[(6 + k) * STRIP + s]
            d2, d3 = source[(12 + k) * STRIP + s], source[(18 + k) * STRIP + s]
            d4, d5 = source[(24 + k) * STRIP + s], source[(30 + k) * STRIP + s]
            even, odd = d4 - four * d2, d3 - four * d1
            near, far = d4 - d2, two * (d3 - d1)
            target[(6 * k) * STRIP + s] = four * d0 - five * d2 + d4
            target[(6 * k + 1) * STRIP + s] = even + odd
            target[(6 * k + 2) * STRIP + s] = even - odd
            target[(6 * k + 3) * STRIP + s] = near + far
            target[(6 * k + 4) * STRIP + s] = near - far
            target[(6 * k + 5) * STRIP + s] = four * d1 - five * d3 + d5


@compiled
def _output_4(source: Array, target: Array, columns: int) -> None:
    """Aᵀ of F(4, 3)."""
    kind = source.dtype.type
    two, four, eight = kind(2), kind(4), kind(8)
    for k in range(columns):
        for s in range(STRIP):
            p0, p1 = source[k * STRIP + s], source[(columns + k) * STRIP + s]
            p2, p3 = source[(2 * columns + k) * STRIP + s], source[(3 * columns + k) * STRIP + s]
            p4, p5 = source[(4 * columns + k) * STRIP + s], source[(5 * columns + k) * STRIP + s]
            sum1, difference1, sum2, difference2 = p1 + p2, p1 - p2, p3 + p4, p3 - p4
            target[(4 * k) * STRIP + s] = p0 + sum1 + sum2
            target[(4 * k + 1) * STRIP + s] = difference1 + two * difference2
            target[(4 * k + 2) * STRIP + s] = sum1 + four * sum2
            target[(4 * k + 3) * STRIP + s] = difference1 + eight * difference2 + p5


@compiled
def _spread_4(source: Array, target: Array, columns: int) -> None:
    """A of F(4, 3)."""
    kind = source.dtype.type
    two, four, eight = kind(2), kind(4), kind(8)
    for k in range(columns):
        for s in range(STRIP):
            g0, g1 = source[k * STRIP + s], source[(columns + k) * STRIP + s]
            g2, g3 = source[(2 * columns + k) * STRIP + s], source[(3 * columns + k) * STRIP + s]
            even1, odd1 = g0 + g2, g1 + g3
            even2, odd2 = g0 + four * g2, two * g1 + eight * g3
            target[(6 * k) * STRIP + s] = g0
            target[(6 * k + 1) * STRIP + s] = even1 + odd1
            target[(6 * k + 2) * STRIP + s] = even1 - odd1
            target[(6 * k + 3) * STRIP + s] = even2 + odd2
            target[(6 * k + 4) * STRIP + s] = even2 - odd2
            target[(6 * k + 5) * STRIP + s] = g3


@compiled
def _input_2(source: Array, target: Array) -> None:
    """Bᵀ of F(2, 3)."""
    for k in range(4):
        for s in range(STRIP):
            d0, d1 = source[k * STRIP + s], source[(4 + k) * STRIP + s]
            d2, d3 = source[(8 + k) * STRIP + s], source[(12 + k) * STRIP + s]
            target[(4 * k) * STRIP + s] = d0 - d2
            target[(4 * k + 1) * STRIP + s] = d1 + d2
            target[(4 * k + 2) * STRIP + s] = d2 - d1
            target[(4 * k + 3) * STRIP + s] = d1 - d3


@compiled
def _output_2(source: Array, target: Array, columns: int) -> None:
    """Aᵀ of F(2, 3)."""
    for k in range(columns):
        for s in range(STRIP):
            p0, p1 = source[k * STRIP + s], source[(columns + k) * STRIP + s]
            p2, p3 = source[(2 * columns + k) * STRIP + s], source[(3 * columns + k) * STRIP + s]
            target[(2 * k) * STRIP + s] = p0 + p1 + p2
            target[(2 * k + 1) * STRIP + s] = p1 - p2 - p3


@compiled
def _spread_2(source: Array, target: Array, columns: int) -> None:
    """A of F(2, 3)."""
    for k in range(columns):
        for s in range(STRIP):
            g0, g1 = source[k * STRIP + s], source[(columns + k) * STRIP + s]
            target[(4 * k) * STRIP + s] = g0
            target[(4 * k + 1) * STRIP + s] = g0 + g1
            target[(4 * k + 2) * STRIP + s] = g0 - g1
            target[(4 * k + 3) * STRIP + s] = -g1
