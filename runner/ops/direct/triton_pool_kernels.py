"""The loops of pooling, for Triton to compile; `triton_conv_kernels` says how to read them.

Windows come as tables, because none of their rules (padding, a rest that is kept or left out,
adaptive sizes) needs to be known here. A line of each of `rows` and `columns`, 4 × oh and 4 × ow,
per window: its first position, the one after its last, what an average divides by, and where
places in it are counted from.

A minimum is the maximum of the negated numbers: SIGN is −1.
"""

# mypy: disable-error-code="untyped-decorator"
# Triton ships without types.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pool(
    x: tl.tensor,
    y: tl.tensor,
    places: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    h: tl.tensor,
    w: tl.tensor,
    oh: tl.tensor,
    ow: tl.tensor,
    kh: tl.tensor,
    kw: tl.tensor,
    width: tl.tensor,
    SIGN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    NUMBER: tl.constexpr,
) -> None:
    """The extreme or, where SIGN is 0, the mean of every window.

    A program computes ROWS × COLUMNS outputs of one plane: a channel of an example.

    Args:
        x: planes × h × w.
        y: planes × oh × ow, written.
        places: of y's shape, written: where in its window each extreme is, the first of equals,
            or the first NaN; None where nobody asks.
        rows: of the windows, a table.
        columns: of the windows, a table.
        h: rows of x.
        w: columns of x.
        oh: rows of y.
        ow: columns of y.
        kh: rows of the highest window.
        kw: columns of the widest window.
        width: distance in a place's number from one row to the next.
        SIGN: 1 for the maximum, −1 for the minimum, 0 for the mean.
        ROWS: output rows of a program.
        COLUMNS: output columns of a program.
        NUMBER: the type to compute in.
    """
    plane, i, j = _block(oh, ow, ROWS, COLUMNS)
    x += plane * h * w
    in_rows, in_columns = i < oh, j < ow
    top, bottom = _line(rows, 0, i, oh, in_rows), _line(rows, 1, i, oh, in_rows)
    left, right = _line(columns, 0, j, ow, in_columns), _line(columns, 1, j, ow, in_columns)
    above, before = _line(rows, 3, i, oh, in_rows), _line(columns, 3, j, ow, in_columns)

    best = tl.full((ROWS, COLUMNS), float("-inf") if SIGN else 0, NUMBER)
    place = tl.zeros((ROWS, COLUMNS), tl.int32)
    for r in range(kh):
        line = x + ((top + r).to(tl.int64) * w)[:, None]
        for c in range(kw):
            inside = (top + r < bottom)[:, None] & (left + c < right)[None, :]
            number = tl.load(line + (left + c)[None, :], mask=inside, other=0).to(NUMBER)
            if SIGN == 0:
                best += number
            else:
                number *= SIGN
                # Comparing with NaN is false: one beats all numbers, and nothing beats it.
                better = inside & (best == best) & ((number > best) | (number != number))
                best = tl.where(better, number, best)
                if places is not None:
                    place = tl.where(better, r * kw + c, place)
    if SIGN:
        best *= SIGN
    else:
        high, wide = _line(rows, 2, i, oh, in_rows), _line(columns, 2, j, ow, in_columns)
        best = _shared(best, high, wide)
    at = plane * oh * ow + i.to(tl.int64)[:, None] * ow + j[None, :]
    inside = in_rows[:, None] & in_columns[None, :]
    tl.store(y + at, best.to(y.dtype.element_ty), mask=inside)
    if places is not None:
        down = (top - above).to(tl.int64)[:, None] + place // kw
        across = (left - before)[None, :] + place % kw
        tl.store(places + at, (down * width + across).to(places.dtype.element_ty), mask=inside)


@triton.jit
def hand_back(
    grad: tl.tensor,
    places: tl.tensor,
    found: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    row_spans: tl.tensor,
    column_spans: tl.tensor,
    h: tl.tensor,
    w: tl.tensor,
    oh: tl.tensor,
    ow: tl.tensor,
    kh: tl.tensor,
    kw: tl.tensor,
    width: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    NUMBER: tl.constexpr,
) -> None:
    """What each input gets from the windows that it is in.

    Every input looks for its windows, instead of every window for its inputs: no two programs
    write to the same place.

    Args:
        grad: planes × oh × ow.
        places: of grad's shape, as `pool` wrote them; None for means.
        found: planes × h × w, written.
        rows: of the windows, a table.
        columns: of the windows, a table.
        row_spans: 2 × h: the first window that each input row is in, and the one after the last.
        column_spans: 2 × w, likewise.
        h: rows of found.
        w: columns of found.
        oh: rows of grad.
        ow: columns of grad.
        kh: the most windows that a row is in.
        kw: the most windows that a column is in.
        width: distance in a place's number from one row to the next.
        ROWS: input rows of a program.
        COLUMNS: input columns of a program.
        NUMBER: the type to compute in.
    """
    plane, i, j = _block(h, w, ROWS, COLUMNS)
    grad += plane * oh * ow
    if places is not None:
        places += plane * oh * ow
    in_rows, in_columns = i < h, j < w
    top, bottom = _line(row_spans, 0, i, h, in_rows), _line(row_spans, 1, i, h, in_rows)
    left = _line(column_spans, 0, j, w, in_columns)
    right = _line(column_spans, 1, j, w, in_columns)

    total = tl.zeros((ROWS, COLUMNS), NUMBER)
    for r in range(kh):
        p = top + r
        in_p = p < bottom
        for c in range(kw):
            q = left + c
            in_q = q < right
            inside = in_p[:, None] & in_q[None, :]
            here = p.to(tl.int64)[:, None] * ow + q[None, :]
            share = tl.load(grad + here, mask=inside, other=0).to(NUMBER)
            if places is None:
                high, wide = _line(rows, 2, p, oh, in_p), _line(columns, 2, q, ow, in_q)
                total += _shared(share, high, wide)
            else:
                above, before = _line(rows, 3, p, oh, in_p), _line(columns, 3, q, ow, in_q)
                mine = (i - above).to(tl.int64)[:, None] * width + (j - before)[None, :]
                theirs = tl.load(places + here, mask=inside, other=0).to(tl.int64)
                total += tl.where(inside & (theirs == mine), share, 0)
    at = plane * h * w + i.to(tl.int64)[:, None] * w + j[None, :]
    inside = in_rows[:, None] & in_columns[None, :]
    tl.store(found + at, total.to(found.dtype.element_ty), mask=inside)


@triton.jit
def _block(h: tl.tensor, w: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr) -> tl.tensor:
    """This program's plane, and its rows and columns; programs are numbered along one dimension."""
    at, across, down = tl.program_id(0), tl.cdiv(w, COLUMNS), tl.cdiv(h, ROWS)
    column, at = at % across * COLUMNS, at // across
    row, plane = at % down * ROWS, (at // down).to(tl.int64)
    return plane, row + tl.arange(0, ROWS), column + tl.arange(0, COLUMNS)


@triton.jit
def _line(
    table: tl.tensor, line: tl.constexpr, at: tl.tensor, count: tl.tensor, inside: tl.tensor
) -> tl.tensor:
    """A line of a table, at some of its positions; elsewhere ones, which can be divided by."""
    return tl.load(table + line * count + at, mask=inside, other=1)


@triton.jit
def _shared(number: tl.tensor, high: tl.tensor, wide: tl.tensor) -> tl.tensor:
    """What is left of numbers when windows share them out; rounded to the nearest."""
    count = (high[:, None] * wide[None, :]).to(number.dtype)
    return number / count if number.dtype == tl.float64 else tl.div_rn(number, count)
