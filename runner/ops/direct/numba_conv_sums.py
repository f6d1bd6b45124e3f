"""A correlation at stride and dilation 1, unrolled for a kernel's size.

A strip of the output is computed at a time: a row, or rows as one. The kernel's numbers and the
sums stay in registers, and each output is written once per input channel. Reading is what takes
the time, since most vectors straddle two cache lines, so that two rows share what they read.

Inputs are in one flat array per channel, `down` from row to row; `at` is where the first window
begins. Indices are unsigned, which need no check for negative ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.ops._compiled import compiled, inlined, ordered

Array = NDArray[Any]


@cache
def correlation(kh: int, kw: int) -> Callable[..., None]:
    """The loops of a correlation, compiled for a kernel's size at stride and dilation 1.

    What lies inside is computed from the input as it is, and the border around it by itself.

    Args:
        kh: height of the kernel.
        kw: its width.

    Returns:
        A function of x (n × c_in × h × w), weight (c_out × c_in / groups × kh × kw), bias (c_out),
        y (n × c_out × oh × ow, written), the window (strides, dilations, padding at the top and
        left, groups, rows of a band, 1 where bands are copied with their padding), and the first
        and the end of the n × groups × bands to compute.
    """

    @compiled
    def correlate(
        x: Array, weight: Array, bias: Array, y: Array,
        window: tuple[int, ...], start: int, stop: int,
    ) -> None:  # fmt: skip
        _, _, _, _, top, left, groups, rows, _ = window
        (_, c_out, oh, ow), (h, w) = y.shape, x.shape[2:]
        ins, outs, bands = weight.shape[1], c_out // groups, (oh + rows - 1) // rows
        target = y.reshape(-1)
        for unit in range(start, stop):
            n, g, begin = unit // (groups * bands), unit // bands % groups, unit % bands * rows
            end, channels = min(begin + rows, oh), slice(g * outs, (g + 1) * outs)
            source = x[n, g * ins : (g + 1) * ins]
            flat = source.reshape(ins, -1)
            # Windows from these rows and columns on reach into no padding.
            first, near, far = max(begin, top), max(left, 0), min(ow, left + w - kw + 1)
            last = max(min(end, top + h - kh + 1), first)
            at = (first - top) * w + near - left
            sizes = w, ow, last - first, far - near
            for o in range(channels.start, channels.stop):
                to = ((n * c_out + o) * oh + first) * ow + near
                _strips(kh, kw, flat[0], at, weight[o, 0], bias[o], target, to, sizes, True)
                for c in range(1, ins):
                    _strips(kh, kw, flat[c], at, weight[o, c], bias[o], target, to, sizes, False)
            if last - first < end - begin or far - near < ow:
                _border(
                    source, weight[channels], bias[channels], y[n, channels],
                    (begin, end), (first, last, near, far), top, left,
                )  # fmt: skip

    return correlate


@cache
def narrow_correlation(kh: int, kw: int) -> Callable[..., None]:
    """The same for rows so short that those of a band are computed as one, then moved apart."""

    @compiled
    def correlate(
        x: Array, weight: Array, bias: Array, y: Array,
        window: tuple[int, ...], start: int, stop: int,
    ) -> None:  # fmt: skip
        _, _, _, _, top, left, groups, rows, padded = window
        _, c_out, oh, ow = y.shape
        ins, outs, bands = weight.shape[1], c_out // groups, (oh + rows - 1) // rows
        pitch = ow + kw - 1
        band = np.empty((ins, (rows + kh - 1) * padded, pitch), x.dtype)
        line = np.empty((rows - 1) * pitch + ow, x.dtype)
        for unit in range(start, stop):
            n, g, begin = unit // (groups * bands), unit // bands % groups, unit % bands * rows
            end = min(begin + rows, oh)
            source, at = x[n, g * ins : (g + 1) * ins], begin * pitch
            if padded:
                fill(band, source, begin - top, left)
                source, at = band, 0
            flat, out = source.reshape(ins, -1), line[: (end - begin - 1) * pitch + ow]
            for o in range(g * outs, (g + 1) * outs):
                for c in range(ins):
                    _one_strip(
                        kh, kw, flat[c], np.uint64(at), np.uint64(pitch), weight[o, c], bias[o],
                        out, c == 0,
                    )  # fmt: skip
                _spread(out, pitch, y[n, o, begin:end])

    return correlate


@inlined
def fill(band: Array, planes: Array, first: int, left: int) -> None:
    """Copy rows of some channels, from row `first` on, `left` zeros before them, zeros outside."""
    channels, rows, width = band.shape
    _, h, w = planes.shape
    begin, end = min(max(left, 0), width), max(min(left + w, width), 0)
    for c in range(channels):
        for r in range(rows):
            source = first + r
            inside = 0 <= source < h and begin < end
            for j in range(np.uint64(begin if inside else width)):
                band[c, r, j] = 0
            if inside:
                to, at = np.uint64(begin), np.uint64(begin - left)
                for j in range(np.uint64(end - begin)):
                    band[c, r, to + j] = planes[c, source, at + j]
                for j in range(np.uint64(end), np.uint64(width)):
                    band[c, r, j] = 0


@inlined
def _spread(line: Array, pitch: int, rows: Array) -> None:
    """Copy rows from where each begins `pitch` after the one before."""
    for r in range(np.uint64(rows.shape[0])):
        for j in range(np.uint64(rows.shape[1])):
            rows[r, j] = line[r * np.uint64(pitch) + j]


@inlined
def _strips(
    kh: int, kw: int, seen: Array, at: int, weight: Array, bias: float,
    target: Array, to: int, sizes: tuple[int, ...], fresh: bool,
) -> None:  # fmt: skip
    """Add up what an input channel gives to strips of an output channel.

    Args:
        kh: height of the kernel; this and `kw` are constants where this is compiled into.
        kw: its width.
        seen: the input channel.
        at: where in it the first window begins.
        weight: kh × kw.
        bias: of the output channel.
        target: the outputs.
        to: where in them the first strip begins.
        sizes: from row to row of the input, of the output, number of strips, numbers in a strip.
        fresh: whether to start from the bias or from what is there.
    """
    pitch, next_row, count, length = sizes
    down, i = np.uint64(pitch), 0
    while i < count:
        here, begin = np.uint64(at + i * pitch), to + i * next_row
        out = target[begin : begin + length]
        if kh > 1 and i + 1 < count:
            out2 = target[begin + next_row : begin + next_row + length]
            _two_strips(kh, kw, seen, here, down, weight, bias, out, out2, fresh)
            i += 2
        else:
            _one_strip(kh, kw, seen, here, down, weight, bias, out, fresh)
            i += 1


@inlined
def _one_strip(
    kh: int, kw: int,
    seen: Array, at: np.uint64, down: np.uint64, weight: Array, bias: float, out: Array,
    fresh: bool,
) -> None:  # fmt: skip
    """Sum up one strip, from a bias (`fresh`) or from what is there."""
    first = bias if fresh else seen.dtype.type(0)
    for j in range(np.uint64(out.size)):
        total = first
        for a in range(np.uint64(kh)):
            for b in range(np.uint64(kw)):
                total += weight[a, b] * seen[at + a * down + j + b]
        out[j] = total if fresh else _plus(out[j], total)


@ordered
def _plus(there: float, part: float) -> float:
    """A channel's sum, added as a whole: added product by product, each would be rounded to all."""
    return there + part


@inlined
def _two_strips(
    kh: int, kw: int, seen: Array, at: np.uint64, down: np.uint64, weight: Array, bias: float,
    out: Array, out2: Array, fresh: bool,
) -> None:  # fmt: skip
    """The same for two strips; the second's windows begin a row below."""
    first = bias if fresh else seen.dtype.type(0)
    for j in range(np.uint64(out.size)):
        # Two sums per output: each addition waits for the one before it.
        even, odd = first, seen.dtype.type(0)
        even2, odd2 = first, seen.dtype.type(0)
        for a in range(np.uint64(kh + 1)):
            for b in range(np.uint64(kw)):
                number = seen[at + a * down + j + b]
                if a < kh:
                    if a % 2 == 0:
                        even += weight[a, b] * number
                    else:
                        odd += weight[a, b] * number
                if a >= 1:
                    if a % 2 == 0:
                        even2 += weight[a - 1, b] * number
                    else:
                        odd2 += weight[a - 1, b] * number
        out[j] = even + odd if fresh else _plus(out[j], even + odd)
        out2[j] = even2 + odd2 if fresh else _plus(out2[j], even2 + odd2)


@inlined
def _border_row(
    x: Array, weight: Array, bias: float, out: Array, top: int, left: int
) -> None:  # fmt: skip
    """An output's row; `top` rows of its windows are above the image."""
    (ins, h, w), (_, kh, kw), ow = x.shape, weight.shape, out.size
    zero, total = x.dtype.type(0), np.empty(ow, np.float64)
    total[:] = bias
    for c in range(ins):
        for a in range(kh):
            inside = 0 <= a - top < h
            for b in range(kw):
                k = weight[c, a, b]
                begin = min(max(left - b, 0), ow) if inside else ow
                end = max(min(ow, w + left - b), begin)
                for j in range(np.uint64(begin)):
                    total[j] += k * zero
                if begin < end:
                    seen = x[c, a - top, begin - left + b :]
                    for j in range(np.uint64(end - begin)):
                        total[np.uint64(begin) + j] += k * seen[j]
                for j in range(np.uint64(end), np.uint64(ow)):
                    total[j] += k * zero
    for j in range(np.uint64(ow)):
        out[j] = total[j]


@compiled
def _border(
    x: Array, weight: Array, bias: Array, y: Array,
    rows: tuple[int, int], inner: tuple[int, int, int, int], top: int, left: int,
) -> None:  # fmt: skip
    """Compute the outputs around a rectangle, whose windows reach into padding.

    Args:
        x: c_in × h × w.
        weight: c_out × c_in × kh × kw.
        bias: c_out.
        y: c_out × oh × ow, written.
        rows: the first to compute, and the end.
        inner: the same of the rectangle's rows and columns.
        top: padding above.
        left: padding at the left.
    """
    (outs, ins, kh, kw), w, ow = weight.shape, x.shape[2], y.shape[2]
    first, last, near, far = inner
    for o in range(outs):
        for i in range(rows[0], rows[1]):
            if i < first or i >= last:
                _border_row(x, weight[o], bias[o], y[o, i], top - i, left)
    # Columns lie scattered in memory, and are gathered before they are computed with.
    count, edges = last - first, near + ow - far
    seen = np.empty((ins, 2, kw - 1, count + kh - 1), x.dtype)
    for c in range(ins):
        for r in range(count + kh - 1):
            for b in range(kw - 1):
                seen[c, 0, b, r] = x[c, first - top + r, b]
                seen[c, 1, b, r] = x[c, first - top + r, w - kw + 1 + b]
    found = np.empty((edges, count), x.dtype)
    zero = x.dtype.type(0)
    for o in range(outs):
        for e in range(edges):
            right = int(e >= near)
            # The first of the windows' columns, counted from the first that was gathered.
            at = e - left if e < near else e - near + far - left - (w - kw + 1)
            found[e] = bias[o]
            for c in range(ins):
                for b in range(kw):
                    inside = 0 <= at + b < kw - 1
                    column = seen[c, right, at + b if inside else 0]
                    for a in range(kh):
                        k = weight[o, c, a, b]
                        for i in range(np.uint64(count)):
                            found[e, i] += k * (column[np.uint64(a) + i] if inside else zero)
        for i in range(count):
            for e in range(near):
                y[o, first + i, e] = found[e, i]
            for e in range(near, edges):
                y[o, first + i, e - near + far] = found[e, i]
