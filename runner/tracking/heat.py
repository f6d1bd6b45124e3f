"""Charts of a metric over two quantities or choices at once: the darker, the better."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runner.tracking.charts import COLOURS, chart
from runner.tracking.comparisons import FAILED, RED, legend, star
from runner.tracking.scales import Scale, fit, lay_out, plain, rounded, wide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar

NUMBERED = 12
"""Columns that are wide enough for numbers, at most."""

LETTERS = 9
"""That a number in a cell has room for."""

DARK, PALE = "#303030", "white"
"""Of numbers on a light and on a dark ground."""


def heat_map(
    values: NDArray[Any],
    across: Scale,
    upward: Scale,
    metric: str,
    *,
    small_is_good: bool,
    failed: Collection[tuple[int, int]] = (),
    best: tuple[int, int] | None = None,
) -> Image.Image:
    """A metric over two quantities or choices; the darker, the better.

    Args:
        values: a row per name of `upward`, a column per name of `across`; NaN where nothing, or
            nothing finite, was measured.
        across: the names of the columns.
        upward: the names of the rows, from the bottom.
        metric: what the values are.
        small_is_good: whether the smallest value is the best.
        failed: rows and columns where a run failed; they get a cross.
        best: row and column of the best value.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.patches import Rectangle

    rows, columns = values.shape
    numbered = columns <= NUMBERED and rows <= 2 * NUMBERED
    width, height = (0.7, 0.42) if numbered else (0.2, 0.2)
    size = (min(14.0, 2.6 + max(4, columns) * width), min(12.0, 1.6 + max(4, rows) * height))
    known = values[np.isfinite(values)]
    low, top = (known.min(), known.max()) if known.size else (0.0, 1.0)
    kind = LogNorm if wide(known.tolist()) else Normalize
    digits = 3 if top - low > 0.05 * max(abs(low), abs(top)) else 5
    with chart(size) as (axes, picture):
        norm = kind(low, top)
        colours = "Blues_r" if small_is_good else "Blues"
        axes.set_facecolor("#d9d9d9")
        shades = axes.imshow(values, cmap=colours, norm=norm, origin="lower", aspect="auto")
        for row, column in np.ndindex(rows, columns) if numbered else ():
            value, cross = values[row, column], "×" * ((row, column) in failed)
            text, colour = cross, DARK
            if np.isfinite(value):
                number = rounded(float(value), digits)
                text = f"{number if len(number) <= LETTERS else f'{value:.3g}'} {cross}".strip()
                colour = PALE if (float(norm(value)) > 0.5) != small_is_good else DARK
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        if best is not None:
            corner = (best[1] - 0.5, best[0] - 0.5)
            frame = Rectangle(corner, 1, 1, fill=False, edgecolor=COLOURS[6], linewidth=3)
            axes.add_patch(frame).set_clip_on(False)
        every = max(1, -(-columns // 24)), max(1, -(-rows // 24))
        columns_named, rows_named = range(0, columns, every[0]), range(0, rows, every[1])
        turned = 0 if fit(axes, columns_named, across.names[:: every[0]]) else 90
        axes.set_xticks(columns_named, across.names[:: every[0]], fontsize=8, rotation=turned)
        axes.set_yticks(rows_named, upward.names[:: every[1]], fontsize=8)
        title = f"{metric} (×: {FAILED})" if failed and numbered else metric
        axes.set(title=title, xlabel=across.label, ylabel=upward.label)
        _bar(axes, shades, low, top)
    return picture[0]


def cloud(
    points: Sequence[tuple[float, float, float]],
    across: Scale,
    upward: Scale,
    metric: str,
    *,
    small_is_good: bool,
    best: tuple[float, float] | None = None,
) -> Image.Image:
    """A metric at places that are no grid; the darker, the better, and a cross where it failed.

    Args:
        points: position across, position upward, and value or NaN.
        across: of the first positions.
        upward: of the second.
        metric: what the values are.
        small_is_good: whether the smallest value is the best.
        best: where the best value is.
    """
    from matplotlib.colors import LogNorm, Normalize

    known = np.array([point for point in points if np.isfinite(point[2])])
    failed = np.array([point for point in points if not np.isfinite(point[2])])
    kind = LogNorm if wide(known[:, 2].tolist()) else Normalize
    with chart((7.2, 4.8)) as (axes, picture):
        shades = axes.scatter(
            known[:, 0], known[:, 1], c=known[:, 2], norm=kind(), s=45,
            cmap="Blues_r" if small_is_good else "Blues", edgecolors="#404040", linewidths=0.5,
        )  # fmt: skip
        if len(failed):
            axes.plot(failed[:, 0], failed[:, 1], "x", color=RED, label=FAILED)
        if best is not None:
            star(axes, *best)
        lay_out(axes, across)
        if upward.log:
            axes.set_yscale("log")
        plain(axes.yaxis)
        axes.set(title=f"{metric} over {across.label} and {upward.label}", ylabel=upward.label)
        axes.grid(color="#e0e0e0", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        _bar(axes, shades, known[:, 2].min(), known[:, 2].max()).set_label(metric)
        legend(axes)
    return picture[0]


def _bar(axes: Axes, shades: ScalarMappable, low: float, top: float) -> Colorbar:
    """The bar that tells what the shades mean; few numbers where it is logarithmic."""
    from matplotlib.colors import LogNorm

    logarithmic = isinstance(shades.norm, LogNorm)
    bar = axes.figure.colorbar(shades, ax=axes, format="%.3g" if logarithmic else "%.8g")
    if logarithmic:
        bar.set_ticks(np.geomspace(low, top, 5).tolist())
        bar.minorticks_off()
    return bar
