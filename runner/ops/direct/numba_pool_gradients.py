"""The loops of pooling's gradients; arguments are as in `numba_pool_kernels`.

Every input row is written once and then, where windows overlap, added to while it is in cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from runner.ops._compiled import compiled, inlined
from runner.ops.direct.numba_pool_kernels import copy, whole_vectors


@compiled
def scatter(
    grad: Any, at: Any, found: Any, rows: Any, columns: Any, offsets: Any, start: int, stop: int
) -> None:
    """Hand each output's gradient to the place that it came from."""
    h, w = found.shape[1:]
    while start < stop:
        plane, first = start // h, start % h
        last = min(first + stop - start, h)
        flat, clean = found[plane].reshape(-1), first
        for i in range(grad.shape[1]):
            if rows[i, 1] <= first or rows[i, 0] >= last:
                continue
            end = min(rows[i, 1], last)
            flat[clean * w : end * w] = 0
            clean = max(clean, end)
            for j in range(grad.shape[2]):
                place = np.int64(at[plane, i, j])
                to = rows[i, 3] * w + columns[j, 3] + (offsets[place] if offsets.size else place)
                if first * w <= to < last * w:
                    flat[to] += grad[plane, i, j]
        flat[clean * w : last * w] = 0
        start += last - first


@compiled
def scatter_pairs(
    grad: Any, at: Any, found: Any, rows: Any, before: int, start: int, stop: int
) -> None:
    """As `scatter`, for windows of two columns, two apart, from `before` the first column on.

    Each input asks the one window across that it is in, which vectorises. Where windows overlap
    across, that was not found to be faster.
    """
    h, w = found.shape[1:]
    n = whole_vectors(grad.shape[2])
    line = np.zeros(max(before + w, 2 * n), grad.dtype)
    middle = line[before : before + w]
    # What is handed back from behind the last window is nothing.
    given, places = np.zeros(n, grad.dtype), np.zeros(n, at.dtype)
    while start < stop:
        plane, first = start // h, start % h
        last = min(first + stop - start, h)
        clean = first
        for i in range(grad.shape[1]):
            if rows[i, 1] <= first or rows[i, 0] >= last:
                continue
            copy(grad[plane, i], given)
            copy(at[plane, i], places)
            top, bottom = max(rows[i, 0], first), min(rows[i, 1], last)
            found[plane, clean:top] = 0
            for r in range(top, bottom):
                _hand_back(given, places, 2 * (r - rows[i, 3]), line)
                row = found[plane, r]
                if r < clean:
                    for c in range(w):
                        row[c] += middle[c]
                else:
                    copy(middle, row)
            clean = max(clean, bottom)
        found[plane, clean:last] = 0
        start += last - first


@inlined
def _hand_back(given: Any, at: Any, place: int, line: Any) -> None:
    left, right, none = at.dtype.type(place), at.dtype.type(place + 1), given.dtype.type(0)
    for j in range(given.shape[0]):
        v, p = given[j], at[j]
        line[2 * j] = v if p == left else none
        line[2 * j + 1] = v if p == right else none


@compiled
def spread(
    grad: Any, found: Any, rows: Any, columns: Any, grid: Any, start: int, stop: int
) -> None:
    """Share each output's gradient out evenly over its window."""
    (h, w), ow = found.shape[1:], grad.shape[2]
    before, step, width = grid
    line = np.zeros(max(before + w, (ow - 1) * step + width), grad.dtype)
    middle, counts = line[before : before + w], columns[:, 2].astype(grad.dtype)
    share = np.empty(ow, grad.dtype)
    while start < stop:
        plane, first = start // h, start % h
        last = min(first + stop - start, h)
        clean = first
        for i in range(grad.shape[1]):
            if rows[i, 1] <= first or rows[i, 0] >= last:
                continue
            given, count = grad[plane, i], grad.dtype.type(rows[i, 2])
            for j in range(ow):
                share[j] = given[j] / (count * counts[j])
            if step:
                _spread_across(share, step, width, line)
            else:
                line[:] = 0
                for j in range(ow):
                    for c in range(columns[j, 0], columns[j, 1]):
                        line[c] += share[j]
            top, bottom = max(rows[i, 0], first), min(rows[i, 1], last)
            found[plane, clean:top] = 0
            for r in range(top, min(clean, bottom)):
                row = found[plane, r]
                for c in range(w):
                    row[c] += middle[c]
            for r in range(max(top, clean), bottom):
                row = found[plane, r]
                for c in range(w):
                    row[c] = middle[c]
            clean = max(clean, bottom)
        found[plane, clean:last] = 0
        start += last - first


@inlined
def _spread_across(share: Any, step: int, width: int, line: Any) -> None:
    n = share.shape[0]
    if step == 2 and width == 2:
        for j in range(n):
            line[2 * j] = share[j]
            line[2 * j + 1] = share[j]
    elif step == 2 and width == 3:
        line[0] = share[0]
        for j in range(n - 1):
            line[2 * j + 1] = share[j]
            line[2 * j + 2] = share[j] + share[j + 1]
        line[2 * n - 1] = share[n - 1]
        line[2 * n] = share[n - 1]
    elif step == 1:
        line[:] = 0
        for c in range(width):
            for j in range(n):
                line[j + c] += share[j]
    else:
        line[:] = 0
        for j in range(n):
            for c in range(width):
                line[j * step + c] += share[j]
