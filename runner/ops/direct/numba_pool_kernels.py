"""The loops of pooling, for Numba to compile; those of its gradients are beside this file.

Arrays are planes × rows × columns, a plane being one channel of one example. `rows` and `columns`
hold a line per window: its first position, the one after its last, what an average divides by, and
its first position if nothing cut it off. A part of the work is a range of rows, counted through all
planes: output rows going forward, input rows in the gradients, so that no two parts write to the
same place.

`grid` says how the windows lie across a row: padding on the left, step and width, if they are all
alike apart from the padding, otherwise a step of 0. Rows of windows go through `line`, a row of
input with that padding on both sides: there no window is cut off, and what is done down the rows
runs along contiguous memory. Loops for steps of 1 and 2 are written out, because that is how they
vectorise.

A minimum is the maximum of the negated numbers: `sign` is −1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from runner.ops._compiled import compiled, inlined


@inlined
def whole_vectors(n: int) -> int:
    """At least n numbers, in whole vectors: what is left over would be computed one by one."""
    return (n + 15) // 16 * 16


@inlined
def copy(row: Any, to: Any) -> None:
    """The numbers that there is room for."""
    for c in range(min(row.shape[0], to.shape[0])):
        to[c] = row[c]


@compiled
def extremes(
    x: Any, y: Any, rows: Any, columns: Any, grid: Any, sign: Any, start: int, stop: int
) -> None:
    """The largest number of every window."""
    (oh, ow), w = y.shape[1:], x.shape[2]
    before, step, width = grid
    line = np.full(max(before + w, (ow - 1) * step + width), -np.inf, x.dtype)
    middle = line[before : before + w]
    for at in range(start, stop):
        plane, i = at // oh, at % oh
        _largest_down(x[plane], rows[i, 0], rows[i, 1], sign, middle)
        if step:
            _largest_across(line, step, width, sign, y[plane, i])
            continue
        for j in range(ow):
            best = line[columns[j, 0]]
            for c in range(columns[j, 0] + 1, columns[j, 1]):
                best = _larger(line[c], best)
            y[plane, i, j] = sign * best


@inlined
def _larger(v: Any, best: Any) -> Any:
    # Comparing with NaN is false: what is NaN stays.
    return v if v > best or v != v else best


@inlined
def _largest_down(x: Any, top: int, bottom: int, sign: Any, line: Any) -> None:
    w, row, next_row = line.shape[0], x[top], x[min(top + 1, bottom - 1)]
    for c in range(w):
        line[c] = _larger(sign * next_row[c], sign * row[c])
    for r in range(top + 2, bottom):
        row = x[r]
        for c in range(w):
            line[c] = _larger(sign * row[c], line[c])


@inlined
def _largest_across(line: Any, step: int, width: int, sign: Any, y: Any) -> None:
    n = y.shape[0]
    if step == 2 and width == 2:
        for j in range(n):
            y[j] = sign * _larger(line[2 * j + 1], line[2 * j])
    elif step == 2 and width == 3:
        for j in range(n):
            y[j] = sign * _larger(line[2 * j + 2], _larger(line[2 * j + 1], line[2 * j]))
    elif step == 1:
        for j in range(n):
            y[j] = sign * line[j]
        for c in range(1, width):
            for j in range(n):
                y[j] = sign * _larger(line[j + c], sign * y[j])
    else:
        for j in range(n):
            best = line[j * step]
            for c in range(1, width):
                best = _larger(line[j * step + c], best)
            y[j] = sign * best


@compiled
def means(x: Any, y: Any, rows: Any, columns: Any, grid: Any, start: int, stop: int) -> None:
    """The mean of every window."""
    (oh, ow), w = y.shape[1:], x.shape[2]
    before, step, width = grid
    line = np.zeros(max(before + w, (ow - 1) * step + width), x.dtype)
    middle, counts = line[before : before + w], columns[:, 2].astype(x.dtype)
    for at in range(start, stop):
        plane, i = at // oh, at % oh
        _sum_down(x[plane], rows[i, 0], rows[i, 1], middle)
        if step:
            _sum_across(line, step, width, y[plane, i])
        else:
            for j in range(ow):
                total = line[columns[j, 0]]
                for c in range(columns[j, 0] + 1, columns[j, 1]):
                    total += line[c]
                y[plane, i, j] = total
        _divide(y[plane, i], x.dtype.type(rows[i, 2]), counts)


@inlined
def _divide(y: Any, down: Any, across: Any) -> None:
    for j in range(y.shape[0]):
        y[j] /= down * across[j]


@inlined
def _sum_down(x: Any, top: int, bottom: int, line: Any) -> None:
    w, row = line.shape[0], x[top]
    for c in range(w):
        line[c] = row[c]
    for r in range(top + 1, bottom):
        row = x[r]
        for c in range(w):
            line[c] += row[c]


@inlined
def _sum_across(line: Any, step: int, width: int, y: Any) -> None:
    n = y.shape[0]
    if step == 2 and width == 2:
        for j in range(n):
            y[j] = line[2 * j] + line[2 * j + 1]
    elif step == 2 and width == 3:
        for j in range(n):
            y[j] = line[2 * j] + line[2 * j + 1] + line[2 * j + 2]
    elif step == 1:
        for j in range(n):
            y[j] = line[j]
        for c in range(1, width):
            for j in range(n):
                y[j] += line[j + c]
    else:
        for j in range(n):
            total = line[j * step]
            for c in range(1, width):
                total += line[j * step + c]
            y[j] = total


@cache
def places(step: int, width: int) -> Callable[..., None]:
    """The loops that find the largest numbers, and where they are: the first, or the first NaN.

    Compiled for each kind of window: together in one function, loops written for different windows
    keep each other from vectorising.

    Args:
        step: of the windows across a row, and
        width: of them; 2 and 2, 2 and 3, or 1 and 3.

    Returns:
        A function of x, y and the places (written), `rows`, `columns`, `grid`, the distance by
        which a place's number grows from one row of the window to the next, `sign`, and the
        first and the end of the output rows to compute.
    """

    @compiled
    def search(
        x: Any, y: Any, found: Any, rows: Any, columns: Any, grid: Any, distance: int,
        sign: Any, start: int, stop: int,
    ) -> None:  # fmt: skip
        (oh, ow), w = y.shape[1:], x.shape[2]
        before = grid[0]
        n = whole_vectors(ow)
        line = np.full(max(before + w, n * step + width), -np.inf, x.dtype)
        even, odd = np.empty(n + 1, x.dtype), np.empty(n, x.dtype)
        best, at = np.empty(n, x.dtype), np.empty(n, found.dtype)
        # Windows from `first` to `last` are not cut off. In the others all numbers may be −∞, and
        # padding the first of them.
        first = min((before + step - 1) // step, ow)
        last = max(min((w + before - width) // step + 1, ow), first)
        for row in range(start, stop):
            plane, i = row // oh, row % oh
            # Where all numbers are −∞, none beats this, and the first place stays.
            _begin(best, at, (rows[i, 0] - rows[i, 3]) * distance)
            for r in range(rows[i, 0], rows[i, 1]):
                place = (r - rows[i, 3]) * distance
                _copy(x[plane, r], sign, line[before : before + w])
                if step == 2 and width == 2:
                    _search_two(line, place, best, at)
                elif step == 2 and width == 3:
                    _split(line, even, odd)
                    _search_three(even, odd, even[1:], place, best, at)
                else:
                    _search_three(line, line[1:], line[2:], place, best, at)
            _keep(best, at, sign, y[plane, i], found[plane, i])
            for j in range(ow):
                if j < first or j >= last:
                    most = y[plane, i, j]
                    found[plane, i, j] = _place(x[plane], rows[i], columns[j], distance, most)

    return search


@compiled
def find(
    x: Any, y: Any, found: Any, rows: Any, columns: Any, distance: int, start: int, stop: int
) -> None:
    """The first places of extremes that are known, in windows of any kind."""
    oh, ow = y.shape[1:]
    for row in range(start, stop):
        plane, i = row // oh, row % oh
        for j in range(ow):
            most = y[plane, i, j]
            found[plane, i, j] = _place(x[plane], rows[i], columns[j], distance, most)


@inlined
def _place(x: Any, row: Any, column: Any, distance: int, most: Any) -> Any:
    for r in range(row[0], row[1]):
        for c in range(column[0], column[1]):
            v = x[r, c]
            if v == most or (v != v and most != most):
                return (r - row[3]) * distance + c - column[3]
    return 0


@inlined
def _begin(best: Any, at: Any, place: int) -> None:
    number = at.dtype.type(place)
    for j in range(best.shape[0]):
        best[j] = -np.inf
        at[j] = number


@inlined
def _copy(row: Any, sign: Any, to: Any) -> None:
    for c in range(row.shape[0]):
        to[c] = sign * row[c]


@inlined
def _keep(best: Any, at: Any, sign: Any, y: Any, found: Any) -> None:
    for j in range(y.shape[0]):
        y[j] = sign * best[j]
    for j in range(y.shape[0]):
        found[j] = at[j]


@inlined
def _beats(v: Any, best: Any) -> Any:
    # False for equal numbers, and if a NaN has been found; true for the first NaN.
    return (not v <= best) & (best == best)


@inlined
def _split(line: Any, even: Any, odd: Any) -> None:
    # Every second number is fetched one by one, unless its neighbour is wanted too.
    n = odd.shape[0]
    for j in range(n):
        even[j], odd[j] = line[2 * j], line[2 * j + 1]
    even[n] = line[2 * n]


@inlined
def _search_two(line: Any, place: int, best: Any, at: Any) -> None:
    first, second = at.dtype.type(place), at.dtype.type(place + 1)
    for j in range(best.shape[0]):
        u, v, old, p = line[2 * j], line[2 * j + 1], best[j], at[j]
        right = _beats(v, u)
        u, q = v if right else u, second if right else first
        take = _beats(u, old)
        best[j], at[j] = u if take else old, q if take else p


@inlined
def _search_three(left: Any, middle: Any, right: Any, place: int, best: Any, at: Any) -> None:
    first, second = at.dtype.type(place), at.dtype.type(place + 1)
    third = at.dtype.type(place + 2)
    for j in range(best.shape[0]):
        u, v, w, old, p = left[j], middle[j], right[j], best[j], at[j]
        larger = _beats(v, u)
        u, q = v if larger else u, second if larger else first
        larger = _beats(w, u)
        u, q = w if larger else u, third if larger else q
        take = _beats(u, old)
        best[j], at[j] = u if take else old, q if take else p
