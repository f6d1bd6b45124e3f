"""Charts that compare many runs: a metric over what varied between them.

A run that gave nothing, or nothing finite, is not left out silently: its place is marked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runner.tracking.charts import COLOURS, GRAY, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED = COLOURS[:2]
GREEN = COLOURS[2]
"""Of the best."""

FEW = 60
"""Runs that are drawn one by one."""

FAILED = "a run failed"

NUMBERED = 12
"""Columns of a heat map that are wide enough for numbers, at most."""


@dataclass(frozen=True)
class Scale:
    """How positions along an axis are laid out.

    Attributes:
        label: what the positions are.
        log: a logarithmic axis.
        names: what stands at 0, 1, 2 …, where positions are no quantities.
        ticks: positions that are named, where there are few.
    """

    label: str
    log: bool = False
    names: tuple[str, ...] = ()
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Point:
    """What came out at one position.

    Attributes:
        x: the position.
        mean: over its runs, or NaN.
        deviation: standard deviation, or NaN.
        values: of each run; those that aren't finite are not drawn.
        failed: whether a run gave nothing, or nothing finite.
    """

    x: float
    mean: float
    deviation: float
    values: tuple[float, ...]
    failed: bool = False


def bands(
    series: Mapping[str, Sequence[Point]],
    scale: Scale,
    metric: str,
    *,
    best: tuple[float, float] | None = None,
) -> Image.Image:
    """Means as lines, with a band of one standard deviation to both sides.

    Args:
        series: name to points in ascending order; a single one needs no name.
        scale: of the positions.
        metric: what the values are.
        best: position and value of the best mean.
    """
    with chart((7.2, 4.2)) as (axes, picture):
        several = any(np.isfinite(point.deviation) for ps in series.values() for point in ps)
        for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
            x = [point.x for point in points]
            means = np.array([point.mean for point in points])
            spread = np.array([point.deviation for point in points])
            line = "mean" if several and not name else name
            axes.plot(x, means, "-o", color=colour, markersize=4, linewidth=1.6, label=line)
            if several:
                edges: dict[str, Any] = {"color": colour, "alpha": 0.18, "linewidth": 0}
                label = "± standard deviation" if len(series) == 1 else None
                axes.fill_between(x, means - spread, means + spread, label=label, **edges)
            _runs(axes, points, colour)
        everything = [point for points in series.values() for point in points]
        _across(axes, scale)
        _upward(axes, everything, metric)
        _failures(axes, [point.x for point in everything if point.failed])
        if best is not None:
            _star(axes, *best)
        axes.set_title(f"{metric} over {scale.label}")
        _legend(axes)
    return picture[0]


def whiskers(
    points: Sequence[Point], names: Sequence[str], label: str, metric: str, best: int | None = None
) -> Image.Image:
    """A row per choice: its mean, one standard deviation to both sides, and its runs.

    Args:
        points: what came out, at the number of its row.
        names: of the rows, from the top.
        label: what the choices are.
        metric: what the values are.
        best: the row that is the best.
    """
    with chart((7.2, 1.7 + 0.34 * len(names))) as (axes, picture):
        few = sum(len(point.values) for point in points) <= FEW * 4
        for point in points:
            if few and len(point.values) > 1:
                axes.plot(
                    point.values, [point.x] * len(point.values), "o",
                    color=BLUE, alpha=0.3, markersize=3.5, markeredgewidth=0,
                )  # fmt: skip
            error = point.deviation if np.isfinite(point.deviation) else None
            colour = GREEN if point.x == best else BLUE
            axes.errorbar(
                point.mean, point.x, xerr=error, fmt="o",
                color=colour, markersize=6, capsize=4, linewidth=1.6,
            )  # fmt: skip
            if point.failed:
                where = axes.get_yaxis_transform()
                axes.plot(0.99, point.x, "x", color=RED, transform=where, clip_on=False)
        axes.set_yticks(range(len(names)), list(names), fontsize=8)
        if best is not None:
            axes.get_yticklabels()[best].set_color(GREEN)
            axes.get_yticklabels()[best].set_fontweight("bold")
        axes.set_ylim(len(names) - 0.5, -0.5)
        if _wide([n for point in points for n in (point.mean, *point.values)]):
            axes.set_xscale("log", nonpositive="mask")
        axes.set(title=f"{metric} by {label}", xlabel=metric)
        axes.grid(axis="x", color="#e0e0e0", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if any(point.failed for point in points):
            axes.plot([], [], "x", color=RED, label=FAILED)
            axes.figure.legend(frameon=False, fontsize=9, loc="outside lower right")
    return picture[0]


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
    wide, high = (0.7, 0.42) if numbered else (0.2, 0.2)
    size = (min(14.0, 2.6 + max(4, columns) * wide), min(12.0, 1.6 + max(4, rows) * high))
    known = values[np.isfinite(values)]
    low, high_value = (known.min(), known.max()) if known.size else (0.0, 1.0)
    kind = LogNorm if _wide(known.tolist()) else Normalize
    with chart(size) as (axes, picture):
        norm = kind(low, high_value)
        colours = "Blues_r" if small_is_good else "Blues"
        axes.set_facecolor("#d9d9d9")
        shades = axes.imshow(values, cmap=colours, norm=norm, origin="lower", aspect="auto")
        for row, column in np.ndindex(rows, columns) if numbered else ():
            value = values[row, column]
            dark = (float(norm(value)) > 0.5) != small_is_good
            colour = "#303030" if np.isnan(value) or not dark else "white"
            text = "" if np.isnan(value) else f"{value:.3g} "
            text = (text + "×" * ((row, column) in failed)).strip()
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        if best is not None:
            corner = (best[1] - 0.5, best[0] - 0.5)
            frame = Rectangle(corner, 1, 1, fill=False, edgecolor=COLOURS[6], linewidth=3)
            axes.add_patch(frame).set_clip_on(False)
        every = max(1, -(-columns // 24)), max(1, -(-rows // 24))
        turned = 90 if sum(map(len, across.names[:: every[0]])) > 90 * size[0] / 7.2 else 0
        columns_named, rows_named = range(0, columns, every[0]), range(0, rows, every[1])
        axes.set_xticks(columns_named, across.names[:: every[0]], fontsize=8, rotation=turned)
        axes.set_yticks(rows_named, upward.names[:: every[1]], fontsize=8)
        title = f"{metric} (×: {FAILED})" if failed and numbered else metric
        axes.set(title=title, xlabel=across.label, ylabel=upward.label)
        axes.figure.colorbar(shades, ax=axes, format="%.3g")
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
    kind = LogNorm if _wide(known[:, 2].tolist()) else Normalize
    with chart((7.2, 4.8)) as (axes, picture):
        shades = axes.scatter(
            known[:, 0], known[:, 1], c=known[:, 2], norm=kind(), s=45,
            cmap="Blues_r" if small_is_good else "Blues", edgecolors="#404040", linewidths=0.5,
        )  # fmt: skip
        if len(failed):
            axes.plot(failed[:, 0], failed[:, 1], "x", color=RED, label=FAILED)
        if best is not None:
            _star(axes, *best)
        _across(axes, across)
        if upward.log:
            axes.set_yscale("log")
        axes.set(title=f"{metric} over {across.label} and {upward.label}", ylabel=upward.label)
        axes.grid(color="#e0e0e0", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.figure.colorbar(shades, ax=axes, format="%.3g", label=metric)
        _legend(axes)
    return picture[0]


def panels(
    panes: Sequence[tuple[Scale, Sequence[float]]],
    values: Sequence[float],
    metric: str,
    best: int | None = None,
) -> Image.Image:
    """A metric over each of many parameters, whatever the others are: one panel per parameter.

    Args:
        panes: of each parameter its scale and a position per value.
        values: NaN where nothing, or nothing finite, was measured.
        metric: what they are.
        best: which of the values is the best.
    """
    columns = 2 if len(panes) in (2, 4) else 3
    rows = -(-len(panes) // columns)
    known = np.array(values, float)
    failed = ~np.isfinite(known)
    wide = _wide(known.tolist())
    with chart((3.4 * columns, 2.9 * rows + 0.4)) as (axes, picture):
        figure = axes.figure
        axes.remove()
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for one, (scale, positions) in zip(grid, panes, strict=False):
            x = np.array(positions, float)
            one.plot(x, known, "o", color=BLUE, alpha=0.5, markersize=4, markeredgewidth=0)
            _across(one, scale)
            if wide:
                one.set_yscale("log")
            one.margins(y=0.12)  # or crosses hide the lowest
            _failures(one, x[failed].tolist())
            if best is not None:
                _star(one, x[best], known[best])
            one.grid(color="#e0e0e0", linewidth=0.7)
            one.spines[["top", "right"]].set_visible(False)
        for row in range(rows):
            grid[row * columns].set_ylabel(metric)
        for one in grid[len(panes) :]:
            one.remove()
        _legend(grid[0])
        figure.suptitle(f"{metric} over each parameter, the others as they come")
    return picture[0]


def distribution(values: Sequence[float], metric: str, over: str) -> Image.Image:
    """How a metric is spread over runs that differ in nothing else: each run, or a histogram.

    Args:
        values: of each run, finite.
        metric: what they are.
        over: what the runs differ in.
    """
    mean = float(np.mean(values))
    deviation = float(np.std(values, ddof=1))
    with chart((7.2, 4.2)) as (axes, picture):
        if len(values) <= FEW:
            order = range(1, len(values) + 1)
            axes.plot(sorted(values), order, "o", color=BLUE, markersize=5)
            axes.set_ylabel("runs at or below")
            axes.locator_params(axis="y", integer=True)
        else:
            axes.hist(values, bins="auto" if np.ptp(values) else 1, color=BLUE, edgecolor="white")
            axes.set_ylabel("runs")
        axes.axvline(mean, color="black", linewidth=1.4, label=f"mean {mean:.4g}")
        axes.axvspan(
            mean - deviation, mean + deviation, color=GRAY, alpha=0.15, linewidth=0, zorder=0,
            label=f"± standard deviation {deviation:.2g}",
        )  # fmt: skip
        axes.set(title=f"{metric} of {len(values):,} runs over {over}", xlabel=metric)
        axes.grid(color="#e0e0e0", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        _legend(axes)
    return picture[0]


def _runs(axes: Axes, points: Sequence[Point], colour: str) -> None:
    """Each run as a pale dot, if they are few and not the means themselves."""
    pairs = [(point.x, value) for point in points for value in point.values]
    if len(points) < len(pairs) <= FEW * 4:
        axes.plot(*zip(*pairs, strict=True), "o", color=colour, alpha=0.3, markersize=3.5,
                  markeredgewidth=0)  # fmt: skip


def _across(axes: Axes, scale: Scale) -> None:
    if scale.log:
        axes.set_xscale("log")
    if scale.names:
        axes.set_xticks(range(len(scale.names)), scale.names, fontsize=8)
    elif scale.ticks:
        axes.set_xticks(scale.ticks, [f"{tick:g}" for tick in scale.ticks])
        axes.minorticks_off()
    axes.set_xlabel(scale.label)


def _upward(axes: Axes, points: Sequence[Point], metric: str) -> None:
    """The axis of values; logarithmic where they are of very different sizes."""
    found = [n for point in points for n in (point.mean, *point.values)]
    if _wide(found):
        axes.set_yscale("log", nonpositive="clip")
        positive = [n for n in found if n > 0 and np.isfinite(n)]
        axes.set_ylim(min(positive) / 2, max(positive) * 2)
    axes.set_ylabel(metric)
    axes.grid(color="#e0e0e0", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def _wide(values: Sequence[float]) -> bool:
    """Whether positive values are of sizes so different that only a logarithmic scale shows all."""
    finite = [value for value in values if np.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > 50 * min(finite)


def _failures(axes: Axes, positions: Sequence[float]) -> None:
    """Crosses at the foot, where a run gave nothing, or nothing finite."""
    if positions:
        axes.plot(
            positions, [0.02] * len(positions), "x", color=RED,
            transform=axes.get_xaxis_transform(), label=FAILED,
        )  # fmt: skip


def _star(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, "*", color=GREEN, markersize=15, markeredgecolor="white", label="best")


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
