"""The loops of convolution, for Triton to compile.

A kernel is written for one program of many that run at once on the GPU. `tl.program_id` says which
part of the result is its own; numbers come in blocks, vectors and matrices whose sizes are powers
of two known at compile time (`tl.arange`), spread over the program's threads. Where a block hangs
over the end of what there is, a mask keeps the load from happening, and zeros stand in: that is
all the padding there is.

Arguments in capitals are constants (`tl.constexpr`): another value is another kernel, compiled
when it is first needed. A loop over `tl.static_range` is written out, once per step; inside one,
vectors are kept in tuples, which become registers. Other whole numbers are ordinary arguments,
but Triton knows those that are 1 or multiples of 16 and drops what they make superfluous.

The offset of a plane can exceed 2³¹ and takes 64 bits; offsets within a row take 32.
"""

# mypy: disable-error-code="untyped-decorator, assignment"
# Triton ships without types, and its tuples grow.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def slide(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    y: tl.tensor,
    h: tl.tensor,
    w: tl.tensor,
    outs: tl.tensor,
    oh: tl.tensor,
    ow: tl.tensor,
    groups: tl.tensor,
    top: tl.tensor,
    left: tl.tensor,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    C_IN: tl.constexpr,
    C_OUT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    NUMBER: tl.constexpr,
) -> None:
    """Cross-correlate few channels under a small kernel, each number of x loaded few times.

    A program computes ROWS × COLUMNS outputs of C_OUT channels. The window slides down: it keeps
    the rows that the next window shares, and loads only those that are new to it.

    Args:
        x: n × groups · C_IN × h × w.
        weight: groups · outs × C_IN × KH × KW.
        bias: groups · outs, or None.
        y: n × groups · outs × oh × ow, written.
        h: rows of x.
        w: columns of x.
        outs: output channels of a group.
        oh: rows of y.
        ow: columns of y.
        groups: channel groups.
        top: rows of padding above.
        left: columns of padding on the left.
        KH: rows of the kernel.
        KW: columns of the kernel.
        SH: step down.
        SW: step across.
        C_IN: input channels of a group.
        C_OUT: output channels of a program.
        ROWS: output rows of a program.
        COLUMNS: output columns of a program.
        NUMBER: the type of the sums.
    """
    taps: tl.constexpr = C_IN * KH * KW
    column, row, first, group, image = _place(COLUMNS, ROWS, C_OUT, ow, oh, outs, groups)
    plane = image * groups + group
    x += plane * C_IN * h * w
    weight += group * outs * taps
    y += plane * outs * oh * ow

    weights = ()
    for o in tl.static_range(C_OUT):
        for i in tl.static_range(KH):
            for c in tl.static_range(C_IN):
                for j in tl.static_range(KW):
                    # Past the last channel: the last one again, which isn't stored.
                    at = tl.minimum(first + o, outs - 1) * taps + (c * KH + i) * KW + j
                    weights += (tl.load(weight + at).to(NUMBER),)

    columns = column + tl.arange(0, COLUMNS)
    across = columns * SW - left
    kept: tl.constexpr = KH - SH if KH > SH else 0
    window = ()
    for i in tl.static_range(kept):
        window += seen(x, row * SH - top + i, across, h, w, C_IN, KW, NUMBER)
    sums = ()
    for r in tl.static_range(ROWS):
        for i in tl.static_range(kept, KH):
            down = (row + r) * SH - top + i
            window += seen(x, down, across, h, w, C_IN, KW, NUMBER)
        for o in tl.static_range(C_OUT):
            total = tl.zeros((COLUMNS,), NUMBER)
            for t in tl.static_range(taps):
                total += window[t] * weights[o * taps + t]
            sums += (total,)
        window = window[(KH - kept) * C_IN * KW :]

    # Stored at the end: the compiler can't know that y is not x, and would have later loads wait.
    for r in tl.static_range(ROWS):
        for o in tl.static_range(C_OUT):
            total = sums[r * C_OUT + o]
            if bias is not None:
                total += tl.load(bias + group * outs + tl.minimum(first + o, outs - 1)).to(NUMBER)
            limit = tl.where((row + r < oh) & (first + o < outs), ow, 0)
            line = y + ((first + o).to(tl.int64) * oh + row + r) * ow
            tl.store(line + columns, total.to(y.dtype.element_ty), mask=columns < limit)


@triton.jit
def _place(
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    C_OUT: tl.constexpr,
    ow: tl.tensor,
    oh: tl.tensor,
    outs: tl.tensor,
    groups: tl.tensor,
) -> tl.tensor:
    """The first column, row and channel of this program's block; its group and example.

    Programs are numbered along one dimension, because the others end at 65,535. Neighbours work on
    the same input, so that they find it in the cache.
    """
    at, blocks = tl.program_id(0), tl.cdiv(outs, C_OUT)
    first, at = at % blocks * C_OUT, at // blocks
    blocks = tl.cdiv(ow, COLUMNS)
    column, at = at % blocks * COLUMNS, at // blocks
    blocks = tl.cdiv(oh, ROWS)
    row, at = at % blocks * ROWS, at // blocks
    return column, row, first, at % groups, (at // groups).to(tl.int64)


@triton.jit
def seen(
    x: tl.tensor,
    row: tl.tensor,
    across: tl.tensor,
    h: tl.tensor,
    w: tl.tensor,
    C_IN: tl.constexpr,
    KW: tl.constexpr,
    NUMBER: tl.constexpr,
) -> tl.tensor:
    """What one row of the kernel sees: C_IN · KW vectors."""
    limit = tl.where((row >= 0) & (row < h), w, 0)  # a row outside has no columns
    row = row.to(tl.int64)
    found = ()
    for c in tl.static_range(C_IN):
        line = x + (c * h + row) * w + across
        for j in tl.static_range(KW):
            inside = (across + j >= 0) & (across + j < limit)
            found += (tl.load(line + j, mask=inside, other=0).to(NUMBER),)
    return found


@triton.jit
def correlate(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    y: tl.tensor,
    ins: tl.tensor,
    h: tl.tensor,
    w: tl.tensor,
    outs: tl.tensor,
    oh: tl.tensor,
    ow: tl.tensor,
    groups: tl.tensor,
    kh: tl.tensor,
    kw: tl.tensor,
    sh: tl.tensor,
    sw: tl.tensor,
    dh: tl.tensor,
    dw: tl.tensor,
    top: tl.tensor,
    left: tl.tensor,
    spread_h: tl.tensor,
    spread_w: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    NUMBER: tl.constexpr,
) -> None:
    """Cross-correlate in any geometry: the loops as they are, for a block of ROWS × COLUMNS.

    Compiled once for all sizes. `spread_h` and `spread_w` serve the gradient of a strided
    convolution: rows and columns of x lie that far apart, with nothing in between.

    Args:
        x: n × groups · ins × h × w.
        weight: groups · outs × ins × kh × kw.
        bias: groups · outs, or None.
        y: n × groups · outs × oh × ow, written.
        ins: input channels of a group.
        h: rows of x.
        w: columns of x.
        outs: output channels of a group.
        oh: rows of y.
        ow: columns of y.
        groups: channel groups.
        kh: rows of the kernel.
        kw: columns of the kernel.
        sh: step down.
        sw: step across.
        dh: distance between rows of the kernel.
        dw: distance between columns of the kernel.
        top: rows of padding above.
        left: columns of padding on the left.
        spread_h: distance between rows of x.
        spread_w: distance between columns of x.
        ROWS: output rows of a program.
        COLUMNS: output columns of a program.
        NUMBER: the type of the sums.
    """
    column, row, channel, group, image = _place(COLUMNS, ROWS, 1, ow, oh, outs, groups)
    plane = image * groups + group
    x += plane * ins * h * w
    weight += (group * outs + channel) * ins * kh * kw
    y += (plane * outs + channel) * oh * ow

    rows, columns = row + tl.arange(0, ROWS).to(tl.int64), column + tl.arange(0, COLUMNS)
    # Many numbers are added up in parts (per row of the kernel, channel, all), whose errors are
    # smaller than those of one long sum.
    total = tl.zeros((ROWS, COLUMNS), NUMBER)
    for c in range(ins):
        of_channel = tl.zeros((ROWS, COLUMNS), NUMBER)
        for i in range(kh):
            of_row = tl.zeros((ROWS, COLUMNS), NUMBER)
            down = rows * sh + i * dh - top
            in_rows = (down >= 0) & (down % spread_h == 0) & (down // spread_h < h)
            line = x + ((c * h + down // spread_h) * w)[:, None]
            for j in range(kw):
                across = columns * sw + j * dw - left
                in_columns = (across >= 0) & (across % spread_w == 0) & (across // spread_w < w)
                inside = in_rows[:, None] & in_columns[None, :]
                number = tl.load(line + (across // spread_w)[None, :], mask=inside, other=0)
                factor = tl.load(weight + (c * kh + i) * kw + j)
                of_row += number.to(NUMBER) * factor.to(NUMBER)
            of_channel += of_row
        total += of_channel
    if bias is not None:
        total += tl.load(bias + group * outs + channel).to(NUMBER)
    inside = (rows < oh)[:, None] & (columns < ow)[None, :]
    at = rows[:, None] * ow + columns[None, :]
    tl.store(y + at, total.to(y.dtype.element_ty), mask=inside)
