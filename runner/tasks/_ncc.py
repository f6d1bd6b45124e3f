"""Normalized cross-correlation, its peaks, and how far they are from where they should be.

Source: J. P. Lewis, *Fast Normalized Cross-Correlation*, Vision Interface 1995; several channels
as OpenCV's ``TM_CCOEFF_NORMED`` takes them: each has a mean of its own, all share one norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runner.config.errors import problem
from runner.geometry import ConvGeometry, Pair, Shape
from runner.ops import conv_op
from runner.tasks._interior import Span

if TYPE_CHECKING:
    from torch import Tensor


HINT = "Name another one with task.pattern, or set task.normalize=false."


def correlation(x: Tensor, pattern: Tensor, op: str) -> Tensor:
    """Plain cross-correlation, summed over channels.

    Args:
        x: c × h × w.
        pattern: c × kh × kw.
        op: the operator that computes it.

    Returns:
        One number per place of the pattern's top left corner, (h − kh + 1) × (w − kw + 1).
    """
    from runner.functional import conv2d

    return conv2d(x[None], pattern[None], op=op)[0, 0]


def ncc(x: Tensor, pattern: Tensor, op: str) -> Tensor:
    """The cosine between a pattern and each window, both less their mean: −1 to 1.

    Neither brightness nor contrast changes it: of a·window + b, a > 0, it is the same.

    Args:
        x: c × h × w.
        pattern: c × kh × kw.
        op: the operator that computes the correlations.

    Returns:
        One number per place of the pattern's top left corner, (h − kh + 1) × (w − kw + 1); 0
        where the window's contrast is lost in rounding, as that of a constant one is.

    Raises:
        ConfigError: the pattern is constant, so that there is no such cosine.
    """
    import torch

    c, kh, kw = pattern.shape
    eps = 4 * sqrt(c * kh * kw) * torch.finfo(x.dtype).eps
    zero_mean = pattern - pattern.mean(dim=(1, 2), keepdim=True)
    norm = float(zero_mean.norm())
    if norm**2 <= eps * float(pattern.norm()) ** 2:
        raise problem(
            "task.pattern",
            "a pattern with contrast after the stack",
            "one that the stack makes constant",
            HINT,
        )
    # About their mean, squares lose the fewest digits when the squared mean is taken from them.
    x = x - x.mean(dim=(1, 2), keepdim=True)
    squares = _box(x * x, (kh, kw), op)
    energy = (squares - _box(x, (kh, kw), op) ** 2 / (kh * kw)).sum(dim=0)
    least = eps * squares.sum(dim=0).max()
    cosine = correlation(x, zero_mean, op) / (energy.clamp(min=0).sqrt() * norm)
    return torch.where(energy > least, cosine, torch.zeros_like(cosine)).clamp(-1, 1)


def _box(x: Tensor, size: Pair, op: str) -> Tensor:
    """The sum over every window of each channel: a box kernel, rows first, then columns."""
    from runner.functional import conv2d

    alone = x[:, None]  # a batch of single channels
    across = conv2d(alone, x.new_ones(1, 1, 1, size[1]), op=op)
    return conv2d(across, x.new_ones(1, 1, size[0], 1), op=op)[:, 0]


def workspace(channels: int, sides: tuple[Span, Span], op: str) -> int:
    """Numbers that the operator holds at once, at most, while `ncc` searches.

    Args:
        channels: of the features.
        sides: rows and columns of what is searched, and of the pattern.
        op: the operator that computes the correlations.
    """
    operator = conv_op(op)
    rows, columns = (side.places for side in sides)
    kh, kw = (side.count for side in sides)
    h, w = rows - 1 + kh, columns - 1 + kw
    steps = [
        (1, Shape(channels, h, w), Shape(1, rows, columns), (kh, kw)),
        (channels, Shape(1, h, w), Shape(1, h, columns), (1, kw)),
        (channels, Shape(1, h, columns), Shape(1, rows, columns), (kh, 1)),
    ]
    held = []
    for batch, x, y, kernel in steps:
        geometry = ConvGeometry(kernel)
        alone = operator.workspace(x, y, geometry) + operator.scratch(x, y, geometry)
        held.append(batch * alone)
    return max(held)


def peaks(scores: NDArray[Any], count: int, near: tuple[float, float]) -> list[tuple[int, int]]:
    """The best places, best first; of equal ones the first, row by row.

    Args:
        scores: h × w.
        count: how many, at most; there are fewer where the neighbourhoods fill the map.
        near: rows and columns within which a better place leaves no room for another.
    """
    left = scores.astype(np.float64)
    rows, columns = np.arange(scores.shape[0]), np.arange(scores.shape[1])
    found: list[tuple[int, int]] = []
    while len(found) < count and np.isfinite(left).any():
        row, column = (int(i) for i in np.unravel_index(np.nanargmax(left), left.shape))
        found.append((row, column))
        taken = np.ix_(abs(rows - row) < max(near[0], 1), abs(columns - column) < max(near[1], 1))
        left[taken] = -np.inf
    return found


def position_error(true: Sequence[Pair], found: Sequence[Pair]) -> int:
    """The largest distance from a true place to the found one that is nearest to it.

    In rows or columns, whichever is more. What is found besides is not counted.
    """
    return max(min(_distance(t, f) for f in found) for t in true)


def missed(true: Sequence[Pair], found: Sequence[Pair], near: tuple[float, float]) -> list[Pair]:
    """The true places that have no found one of their own nearby.

    Args:
        true: where the pattern is.
        found: where it was found.
        near: rows and columns within which a found place is a true one's; the nearest are paired
            first, each with one other.
    """
    pairs = sorted(
        (_distance(t, f), i, j)
        for i, t in enumerate(true)
        for j, f in enumerate(found)
        if abs(t[0] - f[0]) < max(near[0], 1) and abs(t[1] - f[1]) < max(near[1], 1)
    )
    used_true, used_found = set[int](), set[int]()
    for _, i, j in pairs:
        if i not in used_true and j not in used_found:
            used_true.add(i)
            used_found.add(j)
    return [place for i, place in enumerate(true) if i not in used_true]


def _distance(one: Pair, other: Pair) -> int:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1]))
