"""The loops of a convolution, compiled, each over a part of its rows.

Inner loops run along a row, where neighbours lie side by side in memory, so that they vectorise.
Rows are taken in bands that stay in the core's cache; where there is padding, a band is copied
with its zeros first, which leaves the loops free of borders. Each element of the kernel adds a
shifted row to a row of sums; small kernels at stride 1 have loops of their own, in
`numba_conv_sums`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.ops._compiled import compiled, inlined
from runner.ops.direct.bands import NARROW
from runner.ops.direct.numba_conv_sums import fill

Array = NDArray[Any]


@inlined
def _copy(source: Array, target: Array) -> None:
    """As many numbers as the target has."""
    for j in range(np.uint64(target.size)):
        target[j] = source[j]


@compiled
def correlate_any(
    x: Array, weight: Array, bias: Array, y: Array,
    window: tuple[int, ...], start: int, stop: int,
) -> None:  # fmt: skip
    """As what `correlation` returns, for any kernel, stride and dilation."""
    sh, sw, dh, dw, top, left, groups, rows, padded = window
    _, c_out, oh, ow = y.shape
    _, ins, kh, kw = weight.shape
    outs, bands = c_out // groups, (oh + rows - 1) // rows
    columns = (ow - 1) * sw + (kw - 1) * dw + 1
    band = np.empty((ins, ((rows - 1) * sh + (kh - 1) * dh + 1) * padded, columns), x.dtype)
    line, total = np.empty(ow, x.dtype), np.empty(ow, np.float64)
    for unit in range(start, stop):
        n, g, begin = unit // (groups * bands), unit // bands % groups, unit % bands * rows
        source, skipped = x[n, g * ins : (g + 1) * ins], 0
        if padded:
            fill(band, source, begin * sh - top, left)
            source, skipped = band, begin * sh
        for i in range(begin, min(begin + rows, oh)):
            for o in range(g * outs, (g + 1) * outs):
                at = i * sh - skipped
                _row(source, weight[o], bias[o], y[n, o, i], total, line, at, sw, dh, dw)


@compiled
def _row(
    source: Array, weight: Array, bias: float, out: Array, total: Array, part: Array,
    first: int, sw: int, dh: int, dw: int,
) -> None:  # fmt: skip
    """One row of the output, for any kernel: each row's part in the input's type."""
    ins, kh, kw = weight.shape
    total[:] = bias
    for c in range(ins):
        for a in range(kh):
            row = source[c, first + a * dh]
            part[:] = 0
            for b in range(kw):
                k, seen = weight[c, a, b], row[b * dw :]
                if sw == 1:
                    for j in range(part.size):
                        part[j] += k * seen[j]
                else:
                    for j in range(part.size):
                        part[j] += k * seen[j * sw]
            for j in range(part.size):
                total[j] += part[j]
    for j in range(part.size):
        out[j] = total[j]


@compiled
def hand_back(
    grad: Array, weight: Array, found: Array, window: tuple[int, ...], start: int, stop: int
) -> None:
    """Rows of the input's gradient, for any stride.

    Args:
        grad: n × c_out × oh × ow.
        weight: c_out × c_in / groups × kh × kw.
        found: n × c_in × h × w, written.
        window: strides, dilations, padding at the top and left, groups.
        start: first of the n × groups × h rows.
        stop: behind the last.
    """
    sh, sw, dh, dw, top, left, groups = window
    _, c_out, oh, ow = grad.shape
    _, ins, kh, kw = weight.shape
    h, w = found.shape[2:]
    outs = c_out // groups
    total = np.empty(max((ow - 1) * sw + (kw - 1) * dw + 1, left + w), np.float64)
    for unit in range(start, stop):
        n, g, r = unit // (groups * h), unit // h % groups, unit % h
        for c in range(ins):
            total[:] = 0
            for a in range(kh):
                i = (r + top - a * dh) // sh
                if i * sh + a * dh != r + top or i < 0 or i >= oh:
                    continue
                for o in range(g * outs, (g + 1) * outs):
                    row = grad[n, o, i]
                    for b in range(kw):
                        k, seen = weight[o, c, a, b], total[b * dw :]
                        for j in range(ow):
                            seen[j * sw] += k * row[j]
            row = found[n, g * ins + c, r]
            for j in range(w):
                row[j] = total[left + j]


@cache
def weight_gradient(unrolled: bool) -> Callable[..., None]:
    """The loops of the weight's gradient, compiled for stride and dilation 1 or for any.

    Returns:
        A function of grad (n × c_out × oh × ow), x (n × c_in × h × w), sums in float64 (parts ×
        c_out × c_in / groups × kh × kw, added to), the window as in `correlation`, how many pieces
        the output channels of a group are in, and the first and the end of the parts × groups ×
        pieces to compute; a part is a share of the n × bands.
    """

    @compiled
    def add_up(
        grad: Array, x: Array, sums: Array,
        window: tuple[int, ...], pieces: int, start: int, stop: int,
    ) -> None:  # fmt: skip
        sh, sw, dh, dw, top, left, groups, rows, padded = window
        n, c_out, oh, ow = grad.shape
        parts, _, ins, height, width = sums.shape
        outs, bands = c_out // groups, (oh + rows - 1) // rows
        columns = (ow - 1) * sw + (width - 1) * dw + 1
        band = np.empty((ins, ((rows - 1) * sh + (height - 1) * dh + 1) * padded, columns), x.dtype)
        narrow = unrolled and ow < NARROW
        line = np.zeros(rows * columns * narrow, x.dtype)
        for unit in range(start, stop):
            part, g, piece = unit // (groups * pieces), unit // pieces % groups, unit % pieces
            for at in range(n * bands * part // parts, n * bands * (part + 1) // parts):
                begin = at % bands * rows
                source, first = x[at // bands, g * ins : (g + 1) * ins], begin * sh
                if padded:
                    fill(band, source, begin * sh - top, left)
                    source, first = band, 0
                for o in range(outs * piece // pieces, outs * (piece + 1) // pieces):
                    given = grad[at // bands, g * outs + o, begin : min(begin + rows, oh)]
                    found = sums[part, g * outs + o]
                    if narrow:
                        _as_one_row(given, source, found, line, first)
                    elif unrolled:
                        _by_fours(given, source, found, first)
                    else:
                        _row_by_row(given, source, found, first, sh, sw, dh, dw)

    return add_up


@compiled
def _row_by_row(
    given: Array, source: Array, sums: Array, first: int, sh: int, sw: int, dh: int, dw: int
) -> None:
    """Add what the rows of an output channel give, for any window."""
    ins, kh, kw = sums.shape
    for c in range(ins):
        for a in range(kh):
            for i in range(len(given)):
                row = source[c, first + i * sh + a * dh]
                for b in range(kw):
                    sums[c, a, b] += _dot(given[i], row[b * dw :], sw)


@compiled
def _by_fours(given: Array, source: Array, sums: Array, first: int) -> None:
    """The same at stride and dilation 1; adding up across a vector is slow, so for four rows."""
    ins, kh, kw = sums.shape
    fours = len(given) // 4 * 4
    for c in range(ins):
        for i in range(np.uint64(0), np.uint64(fours), np.uint64(4)):
            for a in range(np.uint64(kh)):
                r = np.uint64(first) + i + a
                for b in range(np.uint64(kw)):
                    total = given.dtype.type(0)
                    for j in range(np.uint64(given.shape[1])):
                        for k in range(np.uint64(4)):
                            total += given[i + k, j] * source[c, r + k, j + b]
                    sums[c, a, b] += total
    _row_by_row(given[fours:], source, sums, first + fours, 1, 1, 1, 1)


@compiled
def _as_one_row(given: Array, source: Array, sums: Array, line: Array, first: int) -> None:
    """The same; all rows as one, with zeros where the input's rows are longer."""
    ins, kh, kw = sums.shape
    pitch, (rows, ow) = source.shape[2], given.shape
    flat = source.reshape(ins, -1)
    for i in range(rows):
        _copy(given[i], line[i * pitch : i * pitch + ow])
    whole = line[: (rows - 1) * pitch + ow]
    for c in range(ins):
        for a in range(kh):
            for b in range(kw):
                total = _dot(whole, flat[c, (first + a) * pitch + b :], 1)
                if not np.isfinite(total):  # zero times what is not finite is NaN
                    total = given.dtype.type(0)
                    for i in range(rows):
                        total += _dot(given[i], source[c, first + i + a, b:], 1)
                sums[c, a, b] += total


@compiled
def _dot(given: Array, seen: Array, step: int) -> Any:
    total = given[0] * seen[0]
    if step == 1:
        for j in range(1, given.size):
            total += given[j] * seen[j]
    else:
        for j in range(1, given.size):
            total += given[j] * seen[j * step]
    return total
