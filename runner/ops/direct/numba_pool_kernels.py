"""The loops of pooling, for Numba to compile.

Arrays are planes × rows × columns, a plane being one channel of one example. `rows` and `columns`
hold a line per window: its first position, the one after its last, what an average divides by, and
where its places are counted from. A part of the work is a range of rows, counted through all
planes: output rows going forward, input rows in the gradients, so that no two parts write to the
same place.

A minimum is the maximum of the negated numbers: `sign` is −1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from runner.ops._compiled import compiled


@compiled
def extremes(x: Any, y: Any, rows: Any, columns: Any, sign: Any, start: int, stop: int) -> None:
    """The largest number of every window."""
    oh, w = y.shape[1], x.shape[2]
    line = np.empty(w, x.dtype)
    for at in range(start, stop):
        plane, i = at // oh, at % oh
        for c in range(w):
            line[c] = sign * x[plane, rows[i, 0], c]
        for r in range(rows[i, 0] + 1, rows[i, 1]):
            for c in range(w):
                v, best = sign * x[plane, r, c], line[c]
                # Comparing with NaN is false: what is NaN stays.
                line[c] = v if v > best or v != v else best
        for j in range(y.shape[2]):
            best = line[columns[j, 0]]
            for c in range(columns[j, 0] + 1, columns[j, 1]):
                v = line[c]
                best = v if v > best or v != v else best
            y[plane, i, j] = sign * best


@compiled
def places(
    x: Any,
    y: Any,
    found: Any,
    rows: Any,
    columns: Any,
    width: int,
    sign: Any,
    start: int,
    stop: int,
) -> None:
    """The largest number of every window, and where it is: the first, or the first NaN."""
    oh = y.shape[1]
    for at in range(start, stop):
        plane, i = at // oh, at % oh
        for j in range(y.shape[2]):
            top, left = rows[i, 0], columns[j, 0]
            best, down, across = sign * x[plane, top, left], top, left
            for r in range(top, rows[i, 1]):
                for c in range(left, columns[j, 1]):
                    v = sign * x[plane, r, c]
                    if not v <= best and best == best:
                        best, down, across = v, r, c
            y[plane, i, j] = sign * best
            found[plane, i, j] = (down - rows[i, 3]) * width + across - columns[j, 3]


@compiled
def means(x: Any, y: Any, rows: Any, columns: Any, start: int, stop: int) -> None:
    """The mean of every window."""
    oh, w = y.shape[1], x.shape[2]
    line = np.empty(w, x.dtype)
    for at in range(start, stop):
        plane, i = at // oh, at % oh
        line[:] = x[plane, rows[i, 0]]
        for r in range(rows[i, 0] + 1, rows[i, 1]):
            for c in range(w):
                line[c] += x[plane, r, c]
        for j in range(y.shape[2]):
            total = line[columns[j, 0]]
            for c in range(columns[j, 0] + 1, columns[j, 1]):
                total += line[c]
            y[plane, i, j] = total / y.dtype.type(rows[i, 2] * columns[j, 2])


@compiled
def scatter(
    grad: Any, at: Any, found: Any, rows: Any, columns: Any, offsets: Any, start: int, stop: int
) -> None:
    """Hand each output's gradient to the place that it came from."""
    h, w = found.shape[1:]
    while start < stop:
        plane, first = start // h, start % h
        last = min(first + stop - start, h)
        found[plane, first:last] = 0
        flat = found[plane].reshape(-1)
        for i in range(grad.shape[1]):
            if rows[i, 1] > first and rows[i, 0] < last:
                for j in range(grad.shape[2]):
                    to = np.int64(at[plane, i, j])
                    if offsets.size:
                        to = offsets[to] + rows[i, 3] * w + columns[j, 3]
                    if first * w <= to < last * w:
                        flat[to] += grad[plane, i, j]
        start += last - first


@compiled
def spread(grad: Any, found: Any, rows: Any, columns: Any, start: int, stop: int) -> None:
    """Share each output's gradient out evenly over its window."""
    h, w = found.shape[1:]
    line = np.empty(w, grad.dtype)
    while start < stop:
        plane, first = start // h, start % h
        last = min(first + stop - start, h)
        found[plane, first:last] = 0
        for i in range(grad.shape[1]):
            if rows[i, 1] > first and rows[i, 0] < last:
                line[:] = 0
                for j in range(grad.shape[2]):
                    each = grad[plane, i, j] / grad.dtype.type(rows[i, 2] * columns[j, 2])
                    for c in range(columns[j, 0], columns[j, 1]):
                        line[c] += each
                for r in range(max(rows[i, 0], first), min(rows[i, 1], last)):
                    for c in range(w):
                        found[plane, r, c] += line[c]
        start += last - first
