"""The loops of a convolution, compiled, each over a part of its rows.

Inner loops run along a row, where neighbours lie side by side in memory, so that they vectorise.
Sums of one row are taken in the type of the input and added up in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.ops._compiled import compiled

Array = NDArray[Any]


@compiled
def correlate(
    x: Array, weight: Array, bias: Array, y: Array,
    sh: int, sw: int, dh: int, dw: int, groups: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Rows of the output, from an input that is padded already.

    Args:
        x: n × c_in × h × w.
        weight: c_out × c_in / groups × kh × kw.
        bias: c_out.
        y: n × c_out × oh × ow, written.
        sh: step down.
        sw: step across.
        dh: distance between the kernel's elements, down.
        dw: the same, across.
        groups: channel groups.
        start: first of the n × groups × oh rows.
        stop: behind the last.
    """
    _, c_out, oh, ow = y.shape
    _, ins, kh, kw = weight.shape
    outs = c_out // groups
    total = np.empty(ow, np.float64)
    part = np.empty(ow, x.dtype)
    for unit in range(start, stop):
        n, g, i = unit // (groups * oh), unit // oh % groups, unit % oh
        for o in range(g * outs, (g + 1) * outs):
            total[:] = bias[o]
            for c in range(ins):
                for a in range(kh):
                    row = x[n, g * ins + c, i * sh + a * dh]
                    part[:] = 0
                    for b in range(kw):
                        k = weight[o, c, a, b]
                        seen = row[b * dw :]
                        if sw == 1:
                            for j in range(ow):
                                part[j] += k * seen[j]
                        else:
                            for j in range(ow):
                                part[j] += k * seen[j * sw]
                    for j in range(ow):
                        total[j] += part[j]
            row = y[n, o, i]
            for j in range(ow):
                row[j] = total[j]


@compiled
def hand_back(
    grad: Array, weight: Array, found: Array,
    sh: int, sw: int, dh: int, dw: int, top: int, left: int, groups: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Rows of the input's gradient, for any stride.

    Args:
        grad: n × c_out × oh × ow.
        weight: c_out × c_in / groups × kh × kw.
        found: n × c_in × h × w, written.
        sh: step down.
        sw: step across.
        dh: distance between the kernel's elements, down.
        dw: the same, across.
        top: rows of padding above the input.
        left: columns of padding before it.
        groups: channel groups.
        start: first of the n × groups × h rows.
        stop: behind the last.
    """
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
                        k = weight[o, c, a, b]
                        seen = total[b * dw :]
                        for j in range(ow):
                            seen[j * sw] += k * row[j]
            row = found[n, g * ins + c, r]
            for j in range(w):
                row[j] = total[left + j]


@compiled
def correlate_gradient(
    grad: Array, x: Array, sums: Array,
    sh: int, sw: int, dh: int, dw: int, groups: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Sums of the weight's gradient over parts of the output's rows.

    Args:
        grad: n × c_out × oh × ow.
        x: n × c_in × h × w, padded already.
        sums: parts × c_out × c_in / groups × kh × kw, zeros, added to.
        sh: step down.
        sw: step across.
        dh: distance between the kernel's elements, down.
        dw: the same, across.
        groups: channel groups.
        start: first of the parts × c_out pieces.
        stop: behind the last.
    """
    n, c_out, oh, ow = grad.shape
    parts, _, ins, kh, kw = sums.shape
    for unit in range(start, stop):
        part, o = unit // c_out, unit % c_out
        first = o // (c_out // groups) * ins
        for at in range(n * oh * part // parts, n * oh * (part + 1) // parts):
            i = at % oh
            given = grad[at // oh, o, i]
            for c in range(ins):
                for a in range(kh):
                    row = x[at // oh, first + c, i * sh + a * dh]
                    for b in range(kw):
                        seen = row[b * dw :]
                        total = given[0] * seen[0]
                        if sw == 1:
                            for j in range(1, ow):
                                total += given[j] * seen[j]
                        else:
                            for j in range(1, ow):
                                total += given[j] * seen[j * sw]
                        sums[part, o, c, a, b] += total
