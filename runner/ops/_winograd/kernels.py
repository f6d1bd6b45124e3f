"""The transforms of kernels, compiled.

As matrix products of torch's they would be shorter. But its threads wait for one another after
every step, which on a busy machine takes longer than everything else here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.ops._compiled import compiled
from runner.ops._winograd.vectors import LANES, ROWS

Array = NDArray[Any]


@compiled
def transform(
    weight: Array, c_out: int, c_in: int, matrix: Array, found: Array, start: int, stop: int
) -> None:
    """G g Gᵀ, ROWS output channels at a time.

    Args:
        weight: c_out × c_in × 3 × 3, flat.
        c_out: channels.
        c_in: channels.
        matrix: G, t × 3.
        found: t² × panels × c_in × ROWS, flat, filled, with anything behind the last channel.
        start: the first panel of ROWS output channels.
        stop: their end.
    """
    t, place = len(matrix), len(found) // len(matrix) ** 2
    taps, down = np.zeros(9 * ROWS, weight.dtype), np.zeros(18 * ROWS, weight.dtype)
    stage = np.zeros(36 * ROWS, weight.dtype)
    for panel in range(start, stop):
        for channel in range(c_in):
            for r in range(min(ROWS, c_out - panel * ROWS)):
                at = ((panel * ROWS + r) * c_in + channel) * 9
                kernel = weight[at : at + 9]
                for k in range(9):
                    taps[k * ROWS + r] = kernel[k]
            for i in range(t):
                g0, g1, g2 = matrix[i, 0], matrix[i, 1], matrix[i, 2]
                for s in range(3 * ROWS):
                    two = g0 * taps[s] + g1 * taps[3 * ROWS + s]
                    down[i * 3 * ROWS + s] = two + g2 * taps[6 * ROWS + s]
            for j in range(t):
                g0, g1, g2 = matrix[j, 0], matrix[j, 1], matrix[j, 2]
                for i in range(t):
                    for r in range(ROWS):
                        two = g0 * down[3 * i * ROWS + r] + g1 * down[(3 * i + 1) * ROWS + r]
                        stage[(6 * i + j) * ROWS + r] = two + g2 * down[(3 * i + 2) * ROWS + r]
            for i in range(t):
                for j in range(t):
                    at = (i * t + j) * place + (panel * c_in + channel) * ROWS
                    part = found[at : at + ROWS]
                    for r in range(ROWS):
                        part[r] = stage[(6 * i + j) * ROWS + r]


@compiled
def transform_back(
    sums: Array, pitch: int, c_in: int, matrix: Array, found: Array, start: int, stop: int
) -> None:
    """Gᵀ p G, LANES input channels at a time.

    Args:
        sums: t² times output channels × input channels, flat.
        pitch: how far output channels are apart in it, a multiple of LANES.
        c_in: channels.
        matrix: G, t × 3.
        found: c_out × c_in × 3 × 3, flat, filled.
        start: the first output channel.
        stop: their end.
    """
    t, place = len(matrix), len(sums) // len(matrix) ** 2
    up, stage = np.zeros(18 * LANES, sums.dtype), np.zeros(9 * LANES, sums.dtype)
    for row in range(start, stop):
        for channel in range(0, c_in, LANES):
            up[:] = 0
            stage[:] = 0
            for i in range(t):
                for j in range(t):
                    at = (i * t + j) * place + row * pitch + channel
                    part = sums[at : at + LANES]
                    for k in range(3):
                        g = matrix[i, k]
                        for s in range(LANES):
                            up[(j * 3 + k) * LANES + s] += g * part[s]
            for j in range(t):
                for k in range(3):
                    for n in range(3):
                        g = matrix[j, n]
                        for s in range(LANES):
                            stage[(k * 3 + n) * LANES + s] += g * up[(j * 3 + k) * LANES + s]
            for s in range(min(LANES, c_in - channel)):
                at = (row * c_in + channel + s) * 9
                kernel = found[at : at + 9]
                for k in range(9):
                    kernel[k] = stage[k * LANES + s]
