"""The loops of a convolution, compiled, each over a part of its rows.

Inner loops run along a row, where neighbours lie side by side in memory, so that they vectorise.
Rows are taken in bands that stay in the core's cache; where there is padding, a band is copied
with its zeros first, which costs little there and leaves the loops free of borders.

For small kernels at stride 1 the loops over the kernel are unrolled: its numbers and the sum stay
in registers, and each output is written once per input channel. In other cases each element of
the kernel adds a shifted row to a row of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.ops._compiled import compiled

Array = NDArray[Any]

BAND = 2**15
"""Numbers of input in a band; 128 KiB in float32, a fraction of a core's second-level cache."""


@compiled
def _fill(band: Array, planes: Array, first: int, left: int) -> None:
    """Copy rows of some channels, from row `first` on, `left` zeros before them, zeros outside."""
    channels, rows, width = band.shape
    _, h, w = planes.shape
    begin, end = min(max(left, 0), width), max(min(left + w, width), 0)
    for c in range(channels):
        for r in range(rows):
            target = band[c, r]
            if first + r < 0 or first + r >= h or end <= begin:
                target[:] = 0
                continue
            inside, source = target[begin:end], planes[c, first + r, begin - left :]
            target[:begin] = 0
            for j in range(inside.size):
                inside[j] = source[j]
            target[end:] = 0


@cache
def correlation(kh: int, kw: int) -> Callable[..., None]:
    """The loops of a correlation, compiled for a kernel's size at stride and dilation 1.

    Args:
        kh: height of the kernel; 0 for any size, stride and dilation.
        kw: its width, or 0.

    Returns:
        A function of x (n × c_in × h × w), weight (c_out × c_in / groups × kh × kw), bias (c_out),
        y (n × c_out × oh × ow, written), the window (strides, dilations, padding at the top and
        left, groups, rows of a band, 1 where there is padding), and the first and the end of the
        n × groups × bands to compute.
    """

    @compiled
    def correlate(
        x: Array, weight: Array, bias: Array, y: Array,
        window: tuple[int, ...], start: int, stop: int,
    ) -> None:  # fmt: skip
        sh, sw, dh, dw, top, left, groups, rows, padded = window
        _, c_out, oh, ow = y.shape
        _, ins, height, width = weight.shape
        outs, bands = c_out // groups, (oh + rows - 1) // rows
        columns = (ow - 1) * sw + (width - 1) * dw + 1
        band = np.empty((ins, ((rows - 1) * sh + (height - 1) * dh + 1) * padded, columns), x.dtype)
        total, part = np.empty(ow, np.float64), np.empty(ow, x.dtype)
        for unit in range(start, stop):
            n, g, begin = unit // (groups * bands), unit // bands % groups, unit % bands * rows
            source, skipped = x[n, g * ins : (g + 1) * ins], 0
            if padded:
                _fill(band, source, begin * sh - top, left)
                source, skipped = band, begin * sh
            for i in range(begin, min(begin + rows, oh)):
                for o in range(g * outs, (g + 1) * outs):
                    out, row = y[n, o, i], i * sh - skipped
                    if kh == 0:
                        _row(source, weight[o], bias[o], out, total, part, row, sw, dh, dw)
                        continue
                    # Unsigned indices need no check for negative ones.
                    first = np.uint64(row)
                    for c in range(ins):
                        for j in range(np.uint64(ow)):
                            sum_ = bias[o] if c == 0 else out[j]
                            for a in range(np.uint64(kh)):
                                for b in range(np.uint64(kw)):
                                    sum_ += weight[o, c, a, b] * source[c, first + a, j + b]
                            out[j] = sum_

    return correlate


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
def weight_gradient(kh: int, _kw: int) -> Callable[..., None]:
    """The loops of the weight's gradient, compiled as `correlation`.

    Returns:
        A function of grad (n × c_out × oh × ow), x (n × c_in × h × w), sums in float64 (parts ×
        c_out × c_in / groups × kh × kw, added to), the window as there, and the first and the end
        of the parts × c_out pieces to compute; a part is a share of the n × bands.
    """

    @compiled
    def add_up(
        grad: Array, x: Array, sums: Array, window: tuple[int, ...], start: int, stop: int
    ) -> None:
        sh, sw, dh, dw, top, left, groups, rows, padded = window
        n, c_out, oh, ow = grad.shape
        parts, _, ins, height, width = sums.shape
        bands = (oh + rows - 1) // rows
        columns = (ow - 1) * sw + (width - 1) * dw + 1
        band = np.empty((ins, ((rows - 1) * sh + (height - 1) * dh + 1) * padded, columns), x.dtype)
        for unit in range(start, stop):
            part, o = unit // c_out, unit % c_out
            g = o // (c_out // groups)
            for at in range(n * bands * part // parts, n * bands * (part + 1) // parts):
                begin = at % bands * rows
                source, skipped = x[at // bands, g * ins : (g + 1) * ins], 0
                if padded:
                    _fill(band, source, begin * sh - top, left)
                    source, skipped = band, begin * sh
                end, i = min(begin + rows, oh), begin
                while i < end:
                    together = 1
                    if kh and i + 4 <= end:
                        together = 4
                        _four(grad[at // bands, o], source, sums[part, o], i, i - skipped)
                    else:
                        given = grad[at // bands, o, i]
                        for c in range(ins):
                            for a in range(height):
                                row = source[c, i * sh - skipped + a * dh]
                                for b in range(width):
                                    sums[part, o, c, a, b] += _dot(given, row[b * dw :], sw)
                    i += together

    return add_up


@compiled
def _four(grad: Array, source: Array, sums: Array, first: int, above: int) -> None:
    """Add up what four rows of the output give; summing across a vector is slow, so once."""
    ins, kh, kw = sums.shape
    i = np.uint64(first)
    for c in range(ins):
        for a in range(np.uint64(kh)):
            r = np.uint64(above) + a
            for b in range(np.uint64(kw)):
                total = grad.dtype.type(0)
                for j in range(np.uint64(grad.shape[1])):
                    for k in range(np.uint64(4)):
                        total += grad[i + k, j] * source[c, r + k, j + b]
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
