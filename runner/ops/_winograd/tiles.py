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
Tiling = tuple[int, int, int, int, int]

STRIP = 64
"""Tiles transformed together. A constant, so that the compiler knows that lines don't overlap."""


@compiled
def to_products(
    x: Array, tiling: Tiling, m: int, first: int, found: Array, start: int, stop: int
) -> None:
    """Bᵀ d B for every tile d of (m + 2) × (m + 2) inputs, m apart.

    Args:
        x: n × c × h × w.
        tiling: as `_gather` reads it.
        m: outputs of a tile along one axis, 2 or 4.
        first: the first tile.
        found: (m + 2)² × channels × tiles, filled.
        start: of the strips to transform, counted channel by channel.
        stop: their end.
    """
    t = m + 2
    gathered, across = np.zeros(t * t * STRIP, x.dtype), np.zeros(t * t * STRIP, x.dtype)
    strips = -(-found.shape[2] // STRIP)
    for part in range(start, stop):
        channel, offset = part // strips, part % strips * STRIP
        count = min(STRIP, found.shape[2] - offset)
        _gather(x, tiling, channel, t, m, first + offset, count, gathered)
        if m == 4:
            _input_4(gathered, across)
            _input_4(across, gathered)
        else:
            _input_2(gathered, across)
            _input_2(across, gathered)
        _put(gathered, found, channel, offset, count)


@compiled
def outputs_to_products(
    grad: Array, tiling: Tiling, m: int, first: int, found: Array, start: int, stop: int
) -> None:
    """A g Aᵀ for every tile g of m × m outputs: `from_products` transposed. As `to_products`."""
    t = m + 2
    gathered, across = np.zeros(t * t * STRIP, grad.dtype), np.zeros(t * t * STRIP, grad.dtype)
    strips = -(-found.shape[2] // STRIP)
    for part in range(start, stop):
        channel, offset = part // strips, part % strips * STRIP
        count = min(STRIP, found.shape[2] - offset)
        _gather(grad, tiling, channel, m, m, first + offset, count, gathered)
        if m == 4:
            _spread_4(gathered, across, 4)
            _spread_4(across, gathered, 6)
        else:
            _spread_2(gathered, across, 2)
            _spread_2(across, gathered, 4)
        _put(gathered, found, channel, offset, count)


@compiled
def from_products(
    products: tuple[Array, ...],
    bias: Array,
    tiling: Tiling,
    m: int,
    first: int,
    y: Array,
    start: int,
    stop: int,
) -> None:
    """Aᵀ p A, plus the bias, for every tile p of products.

    Args:
        products: (m + 2)² arrays of channels × tiles.
        bias: of every channel of y.
        tiling: as `_gather` reads it.
        m: outputs of a tile along one axis, 2 or 4.
        first: the first tile.
        y: n × c × oh × ow, filled.
        start: of the strips to transform, counted channel by channel.
        stop: their end.
    """
    t = m + 2
    taken, across = np.zeros(t * t * STRIP, y.dtype), np.zeros(t * t * STRIP, y.dtype)
    tiles = products[0].shape[1]
    strips = -(-tiles // STRIP)
    for part in range(start, stop):
        channel, offset = part // strips, part % strips * STRIP
        count = min(STRIP, tiles - offset)
        for element in range(t * t):
            product = products[element]
            for s in range(count):
                taken[element * STRIP + s] = product[channel, offset + s]
        if m == 4:
            _output_4(taken, across, 6)
            _output_4(across, taken, 4)
        else:
            _output_2(taken, across, 4)
            _output_2(across, taken, 2)
        _scatter(taken, tiling, channel, m, first + offset, count, bias, y)


@compiled
def _gather(
    x: Array,
    tiling: Tiling,
    channel: int,
    size: int,
    step: int,
    first: int,
    count: int,
    found: Array,
) -> None:
    """Lay out tiles of size × size inputs, step apart, element by element; zeros outside x.

    `tiling` holds rows and columns of tiles, where the first tile starts (down, across), and the
    first channel.
    """
    rows, columns, down, right, base = tiling
    h, w = x.shape[2], x.shape[3]
    for s in range(count):
        row, column = divmod(first + s, columns)
        image, row = divmod(row, rows)
        plane = x[image, base + channel]
        top, left = down + row * step, right + column * step
        if top >= 0 and left >= 0 and top + size <= h and left + size <= w:
            for i in range(size):
                for j in range(size):
                    found[(i * size + j) * STRIP + s] = plane[top + i, left + j]
        else:
            for i in range(size):
                for j in range(size):
                    inside = 0 <= top + i < h and 0 <= left + j < w
                    value = plane[top + i, left + j] if inside else x.dtype.type(0)
                    found[(i * size + j) * STRIP + s] = value


@compiled
def _put(taken: Array, found: Array, channel: int, offset: int, count: int) -> None:
    for element in range(found.shape[0]):
        for s in range(count):
            found[element, channel, offset + s] = taken[element * STRIP + s]


@compiled
def _scatter(
    taken: Array,
    tiling: Tiling,
    channel: int,
    m: int,
    first: int,
    count: int,
    bias: Array,
    y: Array,
) -> None:
    """Lay tiles of m × m outputs where they belong; what hangs over the end is dropped."""
    rows, columns, _, _, base = tiling
    b = bias[base + channel]
    for s in range(count):
        row, column = divmod(first + s, columns)
        image, row = divmod(row, rows)
        plane = y[image, base + channel]
        top, left = row * m, column * m
        if top + m <= y.shape[2] and left + m <= y.shape[3]:
            for i in range(m):
                for j in range(m):
                    plane[top + i, left + j] = taken[(i * m + j) * STRIP + s] + b
        else:
            for i in range(min(m, y.shape[2] - top)):
                for j in range(min(m, y.shape[3] - left)):
                    plane[top + i, left + j] = taken[(i * m + j) * STRIP + s] + b


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
