"""Minimal filtering on the CPU, compiled, a strip of tiles at a time.

For each of the t² numbers of a tile, all channels of a strip of tiles are one matrix product:
c_out × c_in times c_in × tiles. A strip is transformed, multiplied and transformed back before the
next one, so that what lies between is never far from the processor; every thread works on strips
of its own.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from runner.geometry import Pair
from runner.ops._compiled import array, compiled, empty, share
from runner.ops._winograd import BLOCK, PAD, STRIP, kernels, padded
from runner.ops._winograd.matrices import MATRICES
from runner.ops._winograd.products import multiply, transpose
from runner.ops._winograd.tiles import Array, Tiling, from_gradients, from_inputs, to_outputs
from runner.ops._winograd.vectors import LANES, ROWS

PITCH = BLOCK + LANES
"""How far channels of a block are apart; powers of two would fall on one another in the cache."""

PRODUCT, TRANSFORM = 1.3e-5, 0.025
"""Microseconds that a multiply-add and a tile's transform take, about."""


def correlate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    corner: Pair,
    size: Pair,
    groups: int,
    m: int,
) -> Tensor:
    """As `reference.correlate`."""
    n, c_in, c_out = x.shape[0], weight.shape[1], weight.shape[0] // groups
    y = empty((n, groups * c_out, *size), x)
    rows, columns = -(-size[0] // m), -(-size[1] // m)
    count = n * rows * columns
    images, maps = array(x).reshape(-1), array(y).reshape(-1)
    biases = array(y.new_zeros(groups * c_out) if bias is None else bias)
    for group in range(groups):
        panels = _panels(weight[group * c_out : (group + 1) * c_out], m)
        taken = (*x.shape[1:], group * c_in, rows, columns, *corner)
        laid = (*y.shape[1:], group * c_out, rows, columns, 0, 0)
        args = (images, taken, panels, c_in, c_out, biases, laid, m, count, maps)
        cost = PRODUCT * (m + 2) ** 2 * c_in * c_out + TRANSFORM * (c_in + c_out)
        share(partial(_correlate, *args), -(-count // PAD), cost * count)
    return y


def _panels(weight: Tensor, m: int) -> Array:
    """Transformed kernels in the order of the products: t² × panels × c_in × ROWS, flat."""
    c_out, c_in = weight.shape[:2]
    matrix, panels = _matrix(weight, m), padded(c_out) // ROWS
    found = array(empty((len(matrix) ** 2 * panels * ROWS * c_in,), weight))
    args = (array(weight).reshape(-1), c_out, c_in, matrix, found)
    share(partial(kernels.transform, *args), panels, TRANSFORM * c_out * c_in)
    return found


def _matrix(like: Tensor, m: int) -> Array:
    return np.array(MATRICES[m].kernel, array(like.new_empty(0)).dtype)


@compiled
def _correlate(
    x: Array,
    taken: Tiling,
    panels: Array,
    c_in: int,
    c_out: int,
    bias: Array,
    laid: Tiling,
    m: int,
    count: int,
    y: Array,
    start: int,
    stop: int,
) -> None:
    """Correlate with one group's kernels, for parts `start` to `stop` of PAD tiles each."""
    t, c_pad = m + 2, -(-c_out // PAD) * PAD
    # Next to every channel's PAD tiles are the next channel's: the products go through them so.
    before, after = (PAD, PAD * c_in, STRIP * c_in), (PAD, PAD * c_pad, STRIP * c_pad)
    inputs, outputs = np.zeros(t * t * before[2], x.dtype), np.zeros(t * t * after[2], x.dtype)
    end = min(stop * PAD, count)
    for first in range(start * PAD, end, STRIP):
        tiles = min(STRIP, end - first)
        from_inputs(x, taken, m, first, tiles, 0, c_in, inputs, before)
        for i in range(t * t):
            matrix = panels[i * c_pad * c_in :]
            for part in range(-(-tiles // PAD)):
                right = inputs[i * before[2] + part * before[1] :]
                result = outputs[i * after[2] + part * after[1] :]
                sizes = (c_pad, c_in, PAD)
                multiply(matrix, 1, ROWS, c_in * ROWS, right, PAD, result, PAD, sizes, False)
        to_outputs(outputs, after, bias, laid, m, first, tiles, c_out, y)


def weight_gradient(grad: Tensor, x: Tensor, corner: Pair, groups: int, m: int) -> Tensor:
    """As `reference.weight_gradient`."""
    n, c_in, c_out, t = x.shape[0], x.shape[1] // groups, grad.shape[1] // groups, m + 2
    rows, columns = -(-grad.shape[2] // m), -(-grad.shape[3] // m)
    images, maps, count = array(x).reshape(-1), array(grad).reshape(-1), n * rows * columns
    found = empty((groups * c_out, c_in, 3, 3), x)
    weights, matrix = array(found).reshape(groups, -1), _matrix(x, m)
    inputs = np.zeros(t * t * padded(c_in) * PITCH, images.dtype)
    outputs = np.zeros(t * t * padded(c_out) * PITCH, images.dtype)
    for group in range(groups):
        taken = (*x.shape[1:], group * c_in, rows, columns, *corner)
        given = (*grad.shape[1:], group * c_out, rows, columns, 0, 0)
        sums = np.zeros(t * t * padded(c_out) * padded(c_in), images.dtype)
        for first in range(0, count, BLOCK):
            tiles = min(BLOCK, count - first)
            args = (images, taken, m, first, tiles, inputs)
            share(partial(_from_inputs, *args), c_in, TRANSFORM * c_in * tiles)
            args = (maps, given, m, first, tiles, outputs)
            share(partial(_from_gradients, *args), c_out, TRANSFORM * c_out * tiles)
            add = partial(_add, outputs, inputs, sums, c_out, c_in, tiles)
            share(add, t * t, PRODUCT * t * t * c_out * c_in * tiles)
        back = partial(kernels.transform_back, sums, padded(c_in), c_in, matrix, weights[group])
        share(back, c_out, TRANSFORM * c_out * c_in)
    return found


@compiled
def _from_inputs(
    x: Array,
    taken: Tiling,
    m: int,
    first: int,
    count: int,
    found: Array,
    start: int,
    stop: int,
) -> None:
    """Transform channels `start` to `stop` of a block of tiles."""
    layout = (PITCH, PAD, len(found) // (m + 2) ** 2)
    for done in range(0, count, STRIP):
        tiles = min(STRIP, count - done)
        from_inputs(x, taken, m, first + done, tiles, start, stop, found[done:], layout)


@compiled
def _from_gradients(
    grad: Array,
    given: Tiling,
    m: int,
    first: int,
    count: int,
    found: Array,
    start: int,
    stop: int,
) -> None:
    """Transform channels `start` to `stop` of a block of tiles of the output's gradient."""
    layout = (PITCH, PAD, len(found) // (m + 2) ** 2)
    for done in range(0, count, STRIP):
        tiles = min(STRIP, count - done)
        from_gradients(grad, given, m, first + done, tiles, start, stop, found[done:], layout)


@compiled
def _add(
    outputs: Array,
    inputs: Array,
    sums: Array,
    c_out: int,
    c_in: int,
    tiles: int,
    start: int,
    stop: int,
) -> None:
    """Add a block's products to the sums, for numbers `start` to `stop` of a tile."""
    rows, columns = -(-c_out // PAD) * PAD, -(-c_in // PAD) * PAD
    right, sizes = np.empty(BLOCK * columns, inputs.dtype), (rows, tiles, columns)
    for i in range(start, stop):
        transpose(inputs[i * columns * PITCH :], PITCH, right, columns, columns, tiles)
        left, total = outputs[i * rows * PITCH :], sums[i * rows * columns :]
        multiply(left, PITCH, 1, ROWS * PITCH, right, columns, total, columns, sizes, True)
