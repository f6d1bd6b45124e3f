"""The loops of the weight's gradient, for Triton to compile, written as `triton_conv_kernels`.

Every weight sums up products over the whole output. A program takes a part of the output and
writes its own sums; these are added up afterwards, in a fixed order. Adding them to one place as
they come (`tl.atomic_add`) would give other last bits in every run.
"""

# mypy: disable-error-code="untyped-decorator, assignment"
# Triton ships without types, and its tuples grow.

from __future__ import annotations

import triton
import triton.language as tl

from runner.ops.direct.triton_conv_kernels import seen


@triton.jit
def slide_products(
    grad: tl.tensor,
    x: tl.tensor,
    parts: tl.tensor,
    blocks: tl.tensor,
    splits: tl.tensor,
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
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    NUMBER: tl.constexpr,
) -> None:
    """All weights of one output channel, where they are few: each number is loaded few times.

    A program takes every `splits`-th block of ROWS × COLUMNS outputs. As in `slide`, the window
    slides down; each of its vectors has a vector of sums, by column.

    Args:
        grad: n × groups · outs × oh × ow.
        x: n × groups · C_IN × h × w.
        parts: splits × groups · outs × C_IN × KH × KW, written.
        blocks: of one output channel of all examples.
        splits: parts to sum up.
        h: rows of x.
        w: columns of x.
        outs: output channels of a group.
        oh: rows of grad.
        ow: columns of grad.
        groups: channel groups.
        top: rows of padding above.
        left: columns of padding on the left.
        KH: rows of the kernel.
        KW: columns of the kernel.
        SH: step down.
        SW: step across.
        C_IN: input channels of a group.
        ROWS: output rows of a block.
        COLUMNS: output columns of a block.
        NUMBER: the type of the sums.
    """
    taps: tl.constexpr = C_IN * KH * KW
    kept: tl.constexpr = KH - SH if KH > SH else 0
    at, c_out = tl.program_id(0), groups * outs
    channel, split = at % c_out, at // c_out
    group = channel // outs
    down_blocks, across_blocks = tl.cdiv(oh, ROWS), tl.cdiv(ow, COLUMNS)

    sums = ()
    for _ in tl.static_range(taps):
        sums += (tl.zeros((COLUMNS,), NUMBER),)
    for block in range(split, blocks, splits):
        column, line = block % across_blocks * COLUMNS, block // across_blocks
        row, image = line % down_blocks * ROWS, (line // down_blocks).to(tl.int64)
        plane = x + (image * groups + group) * C_IN * h * w
        columns = column + tl.arange(0, COLUMNS)
        # What no output sees must not be loaded: zero times infinity is not a number.
        across = tl.where(columns < ow, columns * SW - left, w)
        window = ()
        for i in tl.static_range(kept):
            window += seen(plane, row * SH - top + i, across, h, w, C_IN, KW, NUMBER)
        for r in tl.static_range(ROWS):
            for i in tl.static_range(kept, KH):
                down = (row + r) * SH - top + i
                window += seen(plane, down, across, h, w, C_IN, KW, NUMBER)
            if row + r < oh:
                here = grad + ((image * c_out + channel) * oh + row + r) * ow + columns
                share = tl.load(here, mask=columns < ow, other=0).to(NUMBER)
                added = ()
                for t in tl.static_range(taps):
                    added += (sums[t] + window[t] * share,)
                sums = added
            window = window[(KH - kept) * C_IN * KW :]
    to = parts + (split * c_out + channel) * taps
    for i in tl.static_range(KH):
        for c in tl.static_range(C_IN):
            for j in tl.static_range(KW):
                total = tl.sum(sums[(i * C_IN + c) * KW + j], 0)
                tl.store(to + (c * KH + i) * KW + j, total)


@triton.jit
def products(
    grad: tl.tensor,
    x: tl.tensor,
    parts: tl.tensor,
    lines: tl.tensor,
    splits: tl.tensor,
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
    TAPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    NUMBER: tl.constexpr,
) -> None:
    """Each weight's sum of products of input and output gradient, over a part of the outputs.

    A program takes TAPS weights between one input and one output channel, and every `splits`-th
    row of the output gradient. Sums are kept apart by column until the end.

    Args:
        grad: n × groups · outs × oh × ow.
        x: n × groups · ins × h × w.
        parts: splits × groups · outs × ins × kh × kw, written.
        lines: n · oh, the rows of the output gradient of a channel.
        splits: parts to sum up.
        ins: input channels of a group.
        h: rows of x.
        w: columns of x.
        outs: output channels of a group.
        oh: rows of grad.
        ow: columns of grad.
        groups: channel groups.
        kh: rows of the kernel.
        kw: columns of the kernel.
        sh: step down.
        sw: step across.
        dh: distance between rows of the kernel.
        dw: distance between columns of the kernel.
        top: rows of padding above.
        left: columns of padding on the left.
        TAPS: weights of a program.
        COLUMNS: columns of grad that are taken at once.
        NUMBER: the type of the sums.
    """
    at, blocks, c_out = tl.program_id(0), tl.cdiv(kh * kw, TAPS), groups * outs
    taps, at = at % blocks * TAPS + tl.arange(0, TAPS), at // blocks
    c, at = at % ins, at // ins
    channel, split = at % c_out, at // c_out
    group = channel // outs
    i, j = taps // kw, taps % kw

    total = tl.zeros((TAPS, COLUMNS), NUMBER)
    for line in range(split, lines, splits):
        image, row = (line // oh).to(tl.int64), line % oh
        down = row * sh + i * dh - top
        in_rows = (down >= 0) & (down < h) & (taps < kh * kw)
        source = x + ((((image * groups + group) * ins + c) * h + down) * w)[:, None]
        for column in range(0, ow, COLUMNS):
            columns = column + tl.arange(0, COLUMNS)
            share = tl.load(
                grad + ((image * c_out + channel) * oh + row) * ow + columns,
                mask=columns < ow,
                other=0,
            )
            across = (columns * sw - left)[None, :] + (j * dw)[:, None]
            # Also where there is no gradient: zero times infinity is not a number.
            inside = in_rows[:, None] & (across >= 0) & (across < w) & (columns < ow)[None, :]
            number = tl.load(source + across, mask=inside, other=0)
            total += number.to(NUMBER) * share.to(NUMBER)[None, :]
    to = parts + ((split * c_out + channel) * ins + c) * kh * kw + taps
    tl.store(to, tl.sum(total, 1), mask=taps < kh * kw)
