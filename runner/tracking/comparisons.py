"""Charts that compare many runs: a metric over what varied between them.

A run that gave nothing, or nothing finite, is not left out silently: its place is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from runner.tracking.charts import COLOURS, GRAY, chart
from runner.tracking.scales import Scale, few_decades, lay_out, numbers, plain, rounded, wide

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED = COLOURS[:2]
GREEN = COLOURS[2]
"""Of the best."""

FEW, MANY = 60, 240
"""Runs that are drawn one by one, at most: large, and as pale dots beside their mean."""

FAILED = "a run failed"


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


def band(
    points: Sequence[Point],
    scale: Scale,
    metric: str,
    *,
    best: tuple[float, float] | None = None,
) -> Image.Image:
    """Means as a line, with a band of one standard deviation to both sides.

    Args:
        points: in ascending order.
        scale: of the positions.
        metric: what the values are.
        best: position and value of the best mean.
    """
    x = [point.x for point in points]
    means = np.array([point.mean for point in points])
    spread = np.array([point.deviation for point in points])
    found = [n for point in points for n in (point.mean, *point.values) if np.isfinite(n)]
    # What is below zero has no place on a logarithmic scale: the band ends at its foot.
    foot = min(found) / 2 if wide(found) else -np.inf
    with chart((7.2, 4.2)) as (axes, picture):
        several = bool(np.isfinite(spread).any())
        marker = "o" if len(points) <= FEW else ""
        axes.plot(
            x, means, color=BLUE, marker=marker, markersize=4, linewidth=1.6,
            label="mean" if several else None,
        )  # fmt: skip
        if several:
            axes.fill_between(
                x, np.maximum(means - spread, foot), means + spread,
                color=BLUE, alpha=0.18, linewidth=0, label="± standard deviation",
            )  # fmt: skip
        pairs = [(point.x, value) for point in points for value in point.values]
        if len(points) < len(pairs) <= MANY:
            _runs(axes, *zip(*pairs, strict=True))
        if wide(found):
            axes.set_yscale("log")
            axes.set_ylim(foot, 2 * max(found))
        plain(axes.yaxis)
        axes.set_ylabel(metric)
        axes.grid(color="#e0e0e0", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        _failures(axes, [point.x for point in points if point.failed])
        if best is not None:
            star(axes, *best)
        lay_out(axes, scale)
        axes.set_title(f"{metric} over {scale.label}")
        legend(axes)
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
        few = sum(len(point.values) for point in points) <= MANY
        for point in points:
            if few and len(point.values) > 1:
                _runs(axes, point.values, [point.x] * len(point.values))
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
        if wide([n for point in points for n in (point.mean, *point.values)]):
            axes.set_xscale("log", nonpositive="mask")
        else:
            numbers(axes)
        axes.set(title=f"{metric} by {label}", xlabel=metric)
        axes.grid(axis="x", color="#e0e0e0", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if any(point.failed for point in points):
            axes.plot([], [], "x", color=RED, label=FAILED)
            axes.figure.legend(frameon=False, fontsize=9, loc="outside lower right")
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
    logarithmic = wide(known.tolist())
    with chart((3.4 * columns, 2.9 * rows + 0.4)) as (axes, picture):
        figure = axes.figure
        axes.remove()
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for one, (scale, positions) in zip(grid, panes, strict=False):
            x = np.array(positions, float)
            one.plot(x, known, "o", color=BLUE, alpha=0.5, markersize=4, markeredgewidth=0)
            if logarithmic:
                one.set_yscale("log")
            plain(one.yaxis)
            one.margins(y=0.12)  # or crosses hide the lowest
            _failures(one, x[failed].tolist())
            if best is not None:
                star(one, x[best], known[best])
            lay_out(one, scale)
            one.grid(color="#e0e0e0", linewidth=0.7)
            one.spines[["top", "right"]].set_visible(False)
        for row in range(rows):
            grid[row * columns].set_ylabel(metric)
        for one in grid[len(panes) :]:
            one.remove()
        legend(grid[0])
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
    logarithmic = wide(values)
    # What is below zero has no place on a logarithmic scale.
    foot = min(values) / 2 if logarithmic else -np.inf
    with chart((7.2, 4.2)) as (axes, picture):
        if len(values) <= FEW:
            order = range(1, len(values) + 1)
            axes.plot(sorted(values), order, "o", color=BLUE, markersize=5)
            axes.set_ylabel("runs at or below")
            axes.locator_params(axis="y", integer=True)
        else:
            # Rice's rule looks at the count alone: outliers don't make millions of bars.
            edges = np.histogram_bin_edges(np.log(values) if logarithmic else values, "rice")
            if logarithmic:
                edges = np.exp(edges)
                edges[[0, -1]] = min(values), max(values)  # whatever was rounded
            axes.hist(values, bins=edges.tolist(), color=BLUE, edgecolor="white")
            axes.set_ylabel("runs")
        axes.axvline(mean, color="black", linewidth=1.4, label=f"mean {rounded(mean, 4)}")
        axes.axvspan(
            max(mean - deviation, foot), mean + deviation,
            color=GRAY, alpha=0.15, linewidth=0, zorder=0,
            label=f"± standard deviation {rounded(deviation, 2)}",
        )  # fmt: skip
        if logarithmic:
            axes.set_xscale("log")
            few_decades(axes)
        else:
            numbers(axes)
        axes.set(title=f"{metric} of {len(values):,} runs over {over}", xlabel=metric)
        axes.grid(color="#e0e0e0", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        legend(axes)
    return picture[0]


def _runs(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Each run as a pale dot."""
    axes.plot(x, y, "o", color=BLUE, alpha=0.3, markersize=3.5, markeredgewidth=0)


def _failures(axes: Axes, positions: Sequence[float]) -> None:
    """Crosses at the foot, where a run gave nothing, or nothing finite."""
    if positions:
        axes.plot(
            positions, [0.02] * len(positions), "x", color=RED,
            transform=axes.get_xaxis_transform(), label=FAILED,
        )  # fmt: skip


def star(axes: Axes, x: float, y: float) -> None:
    """Mark what is best."""
    axes.plot(x, y, "*", color=GREEN, markersize=15, markeredgecolor="white", label="best")


def legend(axes: Axes) -> None:
    """A legend, if there is anything in it."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
