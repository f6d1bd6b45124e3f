"""The transforms between images and tiles, compiled.

Neighbouring tiles of a row are transformed side by side, 16 to an instruction. Down the columns
they need no sorting: lines of the image are added to one another as they lie in memory. Across the
rows every m-th number belongs to the same place of its tile. What is sorted, and what is written
to the tiles' 36 (or 16) places in memory, is in the first-level cache by then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.ops._compiled import compiled, inlined
from runner.ops._winograd import PAD, STRIP
from runner.ops._winograd.vectors import LANES, copy

Array = NDArray[Any]

LINE = 4 * STRIP + LANES
"""Numbers set aside for a line of an image: as long as a strip of tiles, and what hangs over."""

PLACE = STRIP + LANES
"""Numbers set aside for one place in all tiles of a strip."""

SIDE = 6 * PLACE
"""Numbers set aside for a row of places; F(2×2) leaves some unused."""

Tiling = tuple[int, int, int, int, int, int, int, int]
"""Where tiles lie in images: the images' channels, height and width, the first channel that is
meant, rows and columns of tiles, and row and column where the first tile starts."""

Layout = tuple[int, int, int]
"""How far transformed channels, every PAD tiles, and the places in a tile are apart in memory."""


@compiled
def from_inputs(
    x: Array,
    tiling: Tiling,
    m: int,
    first: int,
    count: int,
    start: int,
    stop: int,
    found: Array,
    layout: Layout,
) -> None:
    """Bᵀ d B of tiles d of (m + 2) × (m + 2) inputs, m apart.

    Args:
        x: n × c × h × w, flat.
        tiling: of x.
        m: outputs of a tile along one axis, 2 or 4.
        first: the first tile.
        count: how many, at most STRIP.
        start: the first channel, from the first that is meant.
        stop: their end.
        found: filled, with anything where a multiple of LANES isn't full.
        layout: of it.
    """
    lines, sums, stage = _room(x)
    for channel in range(start, stop):
        done = 0
        while done < count:
            length = _gather(x, tiling, m, m + 2, first + done, count - done, channel, lines)
            for group in range(-(-(m * length + 2) // LANES)):
                line, total = lines[group * LANES :], sums[group * LANES :]
                if m == 4:
                    _input_4(line, LINE, 1, total, LINE)
                else:
                    _input_2(line, LINE, 1, total, LINE)
            for group in range(-(-length // LANES)):
                for i in range(m + 2):
                    line = sums[i * LINE + group * m * LANES :]
                    row = stage[i * SIDE + done + group * LANES :]
                    if m == 4:
                        _input_4(line, 1, 4, row, PLACE)
                    else:
                        _input_2(line, 1, 2, row, PLACE)
            done += length
        _put(stage, m + 2, count, found, channel * layout[0], layout)


@compiled
def from_gradients(
    grad: Array,
    tiling: Tiling,
    m: int,
    first: int,
    count: int,
    start: int,
    stop: int,
    found: Array,
    layout: Layout,
) -> None:
    """A g Aᵀ of tiles g of m × m outputs: `to_outputs` transposed. As `from_inputs`."""
    lines, sums, stage = _room(grad)
    for channel in range(start, stop):
        done = 0
        while done < count:
            length = _gather(grad, tiling, m, m, first + done, count - done, channel, lines)
            for group in range(-(-(m * length) // LANES)):
                line, total = lines[group * LANES :], sums[group * LANES :]
                if m == 4:
                    _spread_4(line, LINE, 1, total, LINE)
                else:
                    _spread_2(line, LINE, 1, total, LINE)
            for group in range(-(-length // LANES)):
                for i in range(m + 2):
                    line = sums[i * LINE + group * m * LANES :]
                    row = stage[i * SIDE + done + group * LANES :]
                    if m == 4:
                        _spread_4(line, 1, 4, row, PLACE)
                    else:
                        _spread_2(line, 1, 2, row, PLACE)
            done += length
        _put(stage, m + 2, count, found, channel * layout[0], layout)


@compiled
def to_outputs(
    products: Array,
    layout: Layout,
    bias: Array,
    tiling: Tiling,
    m: int,
    first: int,
    count: int,
    channels: int,
    y: Array,
) -> None:
    """Aᵀ p A of tiles p, plus the bias, to where they belong.

    Args:
        products: of such numbers as `from_inputs` writes.
        layout: of them.
        bias: of every channel of y.
        tiling: of y.
        m: outputs of a tile along one axis, 2 or 4.
        first: the first tile.
        count: how many, at most STRIP.
        channels: how many.
        y: n × c × oh × ow, flat, filled.
    """
    lines, sums, stage = _room(y)
    for channel in range(channels):
        _take(products, channel * layout[0], layout, m + 2, count, stage)
        done = 0
        while done < count:
            length = min(count - done, tiling[5] - (first + done) % tiling[5])
            for group in range(-(-length // LANES)):
                for j in range(m + 2):
                    column = stage[j * PLACE + done + group * LANES :]
                    if m == 4:
                        _output_4(column, SIDE, sums[j * LANES :], 6 * LANES, 1)
                    else:
                        _output_2(column, SIDE, sums[j * LANES :], 6 * LANES, 1)
                for i in range(m):
                    row, line = sums[i * 6 * LANES :], lines[i * LINE + group * m * LANES :]
                    if m == 4:
                        _output_4(row, LANES, line, 1, 4)
                    else:
                        _output_2(row, LANES, line, 1, 2)
            _lay(lines, tiling, m, first + done, length, channel, bias, y)
            done += length


@compiled
def _room(like: Array) -> tuple[Array, Array, Array]:
    """Lines as they lie in memory, their sums, and the tiles of a strip sorted."""
    kind = like.dtype
    return np.zeros(6 * LINE, kind), np.zeros(6 * LINE, kind), np.zeros(6 * SIDE, kind)


@compiled
def _gather(
    x: Array,
    tiling: Tiling,
    m: int,
    size: int,
    first: int,
    count: int,
    channel: int,
    lines: Array,
) -> int:
    """Copy the lines that a row of tiles lies in, zeros outside x; how many tiles it has."""
    channels, h, w, base, rows, columns, down, right = tiling
    column, row, image = first % columns, first // columns % rows, first // columns // rows
    length = min(count, columns - column)
    left, width = right + column * m, m * length + size - m
    start, stop = min(max(-left, 0), width), max(min(w - left, width), 0)
    for i in range(size):
        y = down + row * m + i
        if 0 <= y < h and start < stop:
            plane = (image * channels + base + channel) * h
            line = lines[i * LINE : (i + 1) * LINE]
            _copy(x, (plane + y) * w + left + start, line, start, stop - start)
            for s in range(start):
                line[s] = 0
            for s in range(stop, width):
                line[s] = 0
        else:
            for s in range(LINE):
                lines[i * LINE + s] = 0
    return length


@compiled
def _lay(
    lines: Array,
    tiling: Tiling,
    m: int,
    first: int,
    length: int,
    channel: int,
    bias: Array,
    y: Array,
) -> None:
    """Copy lines to where a row of tiles belongs; what hangs over the end is dropped."""
    channels, h, w, base, rows, columns, _, _ = tiling
    column, row, image = first % columns, first // columns % rows, first // columns // rows
    b, plane = bias[base + channel], (image * channels + base + channel) * h
    width = min(m * length, w - column * m)
    for i in range(min(m, h - row * m)):
        line = lines[i * LINE : (i + 1) * LINE]
        for s in range(LINE):
            line[s] += b
        _copy(line, 0, y, (plane + row * m + i) * w + column * m, width)


@inlined
def _put(stage: Array, t: int, count: int, found: Array, at: int, layout: Layout) -> None:
    _, part, place = layout
    for i in range(t):
        for j in range(t):
            for s in range(0, count, LANES):
                to = at + (i * t + j) * place + s // PAD * part + s % PAD
                copy(stage, i * SIDE + j * PLACE + s, found, to)


@inlined
def _take(products: Array, at: int, layout: Layout, t: int, count: int, stage: Array) -> None:
    _, part, place = layout
    for i in range(t):
        for j in range(t):
            for s in range(0, count, LANES):
                source = at + (i * t + j) * place + s // PAD * part + s % PAD
                copy(products, source, stage, i * SIDE + j * PLACE + s)


@inlined
def _copy(source: Array, at: int, target: Array, to: int, length: int) -> None:
    """Copy numbers LANES at a time, the last time some that were copied already."""
    if length < LANES:
        for s in range(length):
            target[to + s] = source[at + s]
        return
    for s in range(0, length - LANES, LANES):
        copy(source, at + s, target, to + s)
    copy(source, at + length - LANES, target, to + length - LANES)


# Products with the matrices, written out so that zeros cost nothing and common sums are computed
# once. The numbers of a tile lie `pitch` apart, those of neighbouring tiles `step` apart.


@inlined
def _input_4(source: Array, pitch: int, step: int, target: Array, to: int) -> None:
    """Bᵀ of F(4, 3)."""
    kind = source.dtype.type  # a plain 4 would widen float32
    two, four, five = kind(2), kind(4), kind(5)
    for s in range(LANES):
        d0, d1, d2 = source[step * s], source[pitch + step * s], source[2 * pitch + step * s]
        d3, d4 = source[3 * pitch + step * s], source[4 * pitch + step * s]
        d5 = source[5 * pitch + step * s]
        even, odd, near, far = d4 - four * d2, d3 - four * d1, d4 - d2, two * (d3 - d1)
        target[s] = four * d0 - five * d2 + d4
        target[to + s] = even + odd
        target[2 * to + s] = even - odd
        target[3 * to + s] = near + far
        target[4 * to + s] = near - far
        target[5 * to + s] = four * d1 - five * d3 + d5


@inlined
def _output_4(source: Array, pitch: int, target: Array, to: int, step: int) -> None:
    """Aᵀ of F(4, 3)."""
    kind = source.dtype.type
    two, four, eight = kind(2), kind(4), kind(8)
    for s in range(LANES):
        p0, p1, p2 = source[s], source[pitch + s], source[2 * pitch + s]
        p3, p4, p5 = source[3 * pitch + s], source[4 * pitch + s], source[5 * pitch + s]
        sum1, difference1, sum2, difference2 = p1 + p2, p1 - p2, p3 + p4, p3 - p4
        target[step * s] = p0 + sum1 + sum2
        target[to + step * s] = difference1 + two * difference2
        target[2 * to + step * s] = sum1 + four * sum2
        target[3 * to + step * s] = difference1 + eight * difference2 + p5


@inlined
def _spread_4(source: Array, pitch: int, step: int, target: Array, to: int) -> None:
    """A of F(4, 3)."""
    kind = source.dtype.type
    two, four, eight = kind(2), kind(4), kind(8)
    for s in range(LANES):
        g0, g1 = source[step * s], source[pitch + step * s]
        g2, g3 = source[2 * pitch + step * s], source[3 * pitch + step * s]
        even1, odd1, even2, odd2 = g0 + g2, g1 + g3, g0 + four * g2, two * g1 + eight * g3
        target[s] = g0
        target[to + s] = even1 + odd1
        target[2 * to + s] = even1 - odd1
        target[3 * to + s] = even2 + odd2
        target[4 * to + s] = even2 - odd2
        target[5 * to + s] = g3


@inlined
def _input_2(source: Array, pitch: int, step: int, target: Array, to: int) -> None:
    """Bᵀ of F(2, 3)."""
    for s in range(LANES):
        d0, d1 = source[step * s], source[pitch + step * s]
        d2, d3 = source[2 * pitch + step * s], source[3 * pitch + step * s]
        target[s] = d0 - d2
        target[to + s] = d1 + d2
        target[2 * to + s] = d2 - d1
        target[3 * to + s] = d1 - d3


@inlined
def _output_2(source: Array, pitch: int, target: Array, to: int, step: int) -> None:
    """Aᵀ of F(2, 3)."""
    for s in range(LANES):
        p0, p1 = source[s], source[pitch + s]
        p2, p3 = source[2 * pitch + s], source[3 * pitch + s]
        target[step * s] = p0 + p1 + p2
        target[to + step * s] = p1 - p2 - p3


@inlined
def _spread_2(source: Array, pitch: int, step: int, target: Array, to: int) -> None:
    """A of F(2, 3)."""
    for s in range(LANES):
        g0, g1 = source[step * s], source[pitch + step * s]
        target[s] = g0
        target[to + s] = g0 + g1
        target[2 * to + s] = g0 - g1
        target[3 * to + s] = -g1
