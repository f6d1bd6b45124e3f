"""Charts: lines over a quantity, bars, labelled matrices; drawn by Matplotlib, given as pictures.

Matplotlib is imported when the first chart is drawn, and without pyplot, whose global state and
windows a run has no use for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

DPI = 100
GRAY = "#737373"
COLOURS = ("#2166ac", "#b2182b", "#4d9221", "#8c510a", "#762a83", GRAY, "#d6a000", "#01a0a0")
"""Lines in the order they are given; the first two are those of `pictures.BLUE_TO_RED`."""


def lines(
    series: Mapping[str, Sequence[float]],
    title: str,
    x_label: str,
    y_label: str,
    *,
    x: Sequence[float] | None = None,
    log: bool = False,
    from_zero: bool = False,
    dashed: Sequence[str] = (),
) -> Image.Image:
    """Curves over a common axis.

    Args:
        series: name to values, one per position; NaN leaves a gap.
        title: written above.
        x_label: what the positions are.
        y_label: what the values are.
        x: the positions; default: 0, 1, 2 …
        log: a logarithmic scale of values.
        from_zero: the axis of values begins at 0: none is negative.
        dashed: names of the curves that are predictions or limits, not measurements; one whose
            name begins with another's has that one's colour.
    """
    drawn = [name for name in series if name not in dashed]
    whose = {name: name for name in series}
    whose |= {name: one for name in dashed for one in drawn if name.startswith(one)}
    colours = dict(zip(dict.fromkeys(whose.values()), cycle(COLOURS), strict=False))
    with chart((7.2, 4.2)) as (axes, picture):
        for name, values in series.items():
            positions = range(len(values)) if x is None else x[: len(values)]
            behind = whose[name] != name  # broad and pale, or it would be hidden where it is right
            axes.plot(
                positions,
                values,
                label=name,
                color=colours[whose[name]],
                linestyle="--" if name in dashed else "-",
                marker="o" if len(values) <= 40 and name not in dashed else "",
                markersize=3.5,
                linewidth=5 if behind else 1.6,
                alpha=0.4 if behind else 1,
                zorder=1.5 if behind else 2,
                clip_on=not from_zero,  # a line at 0 is not cut in half
            )
        if log and any(value > 0 for values in series.values() for value in values):
            axes.set_yscale("log", nonpositive="mask")
        if from_zero:
            axes.set_ylim(bottom=0, top=None if np.nansum([*series.values()]) else 1)
        if x is None or all(isinstance(position, int) for position in x):
            axes.locator_params(axis="x", integer=True)  # no steps between the steps
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.grid(color="#e0e0e0", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=9)
    return picture[0]


def bars(
    values: Mapping[str, float], title: str, y_label: str, *, log: bool = False
) -> Image.Image:
    """A bar per name, its value above it."""
    with chart((max(4.0, 1.1 + 0.9 * len(values)), 4.2)) as (axes, picture):
        drawn = axes.bar(list(values), list(values.values()), color=COLOURS[0], log=log)
        axes.bar_label(drawn, fmt="{:,.4g}", fontsize=8, padding=2)
        axes.set(title=title, ylabel=y_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", labelrotation=30 if len(values) > 6 else 0)
    return picture[0]


def beside_limits(
    rows: Mapping[str, Mapping[str, tuple[float, float]]],
    title: str,
    x_label: str,
    limit_label: str = "limit",
) -> Image.Image:
    """Quantities beside what they may be: a bar up to a value, a line at its limit; logarithmic.

    Args:
        rows: name to quantities, each with its value and its limit; what is not positive and
            finite has no bar, and a limit of zero is drawn at the left edge.
        title: written above.
        x_label: what the values are.
        limit_label: what the limits are.
    """
    names, quantities = list(rows), list(next(iter(rows.values())))
    height = 0.8 / len(quantities)
    with chart((7.2, 1.5 + 0.5 * len(rows))) as (axes, picture):
        for i, quantity in enumerate(quantities):
            places = [n + (i - (len(quantities) - 1) / 2) * height for n in range(len(rows))]
            pairs = [rows[name][quantity] for name in names]
            values = [value if 0 < value < np.inf else np.nan for value, _ in pairs]
            axes.barh(places, values, 0.8 * height, color=COLOURS[i], label=quantity)
            for place, (value, limit) in zip(places, pairs, strict=True):
                at = axes.get_yaxis_transform()
                reach = place - height / 2, place + height / 2
                where: dict[str, Any] = {} if limit > 0 else {"transform": at}
                x = limit or 0.006  # of the axis' width: it has no zero
                axes.plot([x, x], reach, color="white", linewidth=5, zorder=3, **where)
                axes.plot([x, x], reach, color="black", linewidth=2.5, zorder=3, **where)
                if limit == 0:
                    text = axes.text(0.015, place, "0", transform=at, va="center", fontsize=8)
                    text.set_bbox({"color": "white", "pad": 1})
                if not 0 < value < np.inf:
                    axes.text(0.1, place, f"{value:g}", transform=at, va="center", fontsize=8)
        axes.set_xscale("log", nonpositive="clip")  # or bars, which begin at 0, are not drawn
        drawn = [number for row in rows.values() for pair in row.values() for number in pair]
        drawn = [number for number in drawn if 0 < number < np.inf]
        if drawn:
            axes.set_xlim(min(drawn) / 100, 3 * max(drawn))
        axes.set_yticks(range(len(rows)), names, fontsize=8)
        axes.set(title=title, xlabel=x_label)
        axes.grid(axis="x", color="#e0e0e0", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.plot([], [], color="black", linewidth=2.5, label=limit_label)
        axes.figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    return picture[0]


def surface(
    values: NDArray[Any],
    x: Sequence[float],
    y: Sequence[float],
    title: str,
    x_label: str,
    y_label: str,
    *,
    path: NDArray[Any],
    goal: tuple[float, float],
) -> Image.Image:
    """A positive quantity over two others, on a logarithmic scale, and a path that goes down.

    Args:
        values: a row per `y`, a column per `x`.
        x: positions across, ascending.
        y: positions upward, ascending.
        title: written above.
        x_label: what `x` is.
        y_label: what `y` is.
        path: steps × 2 positions; what lies outside is not drawn.
        goal: where the lowest point is.
    """
    from matplotlib.colors import LogNorm

    with chart((6.0, 5.2)) as (axes, picture):
        low = max(float(values[values > 0].min()), 1e-4 * float(values.max()))
        levels = np.geomspace(low, float(values.max()), 13)
        norm = LogNorm(levels[0], levels[-1])
        values = values.clip(min=levels[0])
        shades = axes.contourf(x, y, values, levels, norm=norm, cmap="Blues", extend="min")
        axes.contour(x, y, values, levels, colors="white", linewidths=0.5)
        axes.plot(*path.T, "-o", color=COLOURS[1], markersize=4, linewidth=1.4, label="descent")
        axes.plot(*path[0], "s", color=COLOURS[1], markersize=8, label="start")
        axes.plot(*goal, "*", color="black", markersize=13, label="target")
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), aspect="equal")
        axes.figure.colorbar(shades, ax=axes, shrink=0.8, format="%.3g")
        axes.legend(fontsize=9, loc="best")
    return picture[0]


def roofline(
    points: Mapping[str, Sequence[tuple[float, float]]],
    bandwidths: Mapping[str, float],
    peak: float,
    title: str,
    aside: Collection[str] = (),
) -> Image.Image:
    """Speeds under roofs: what moving the data allows, and what arithmetic does.

    Args:
        points: name to pairs of operations per byte and giga-operations per second.
        bandwidths: name to gigabytes per second that can be moved; from the second on dashed.
        peak: giga-operations per second that can be computed.
        title: written above.
        aside: names that are drawn in gray.
    """
    ridges = [peak / bandwidth for bandwidth in bandwidths.values()]
    across = [x for pairs in points.values() for x, _ in pairs] + ridges
    left, right = min(across) / 2, max(across) * 2
    with chart((7.2, 5.2)) as (axes, picture):
        for i, (name, bandwidth) in enumerate(bandwidths.items()):
            heights = [min(peak, bandwidth * x) for x in (left, ridges[i], right)]
            line = "--" if i else "-"
            axes.plot([left, ridges[i], right], heights, line, color="black", label=name)
        label = f"arithmetic: {peak:.3g} GFLOP/s"
        axes.axhline(peak, linestyle=":", linewidth=1, color="black", label=label)
        for name, style in _marks(points, aside).items():
            pairs = zip(*points[name], strict=True)
            axes.plot(*pairs, linestyle="", label=name, **style)
        axes.set(xscale="log", yscale="log", title=title, xlim=(left, right))
        axes.set(xlabel="operations per byte", ylabel="GFLOP/s")
        axes.grid(color="#e0e0e0", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    return picture[0]


def ratios(
    rows: Mapping[str, Mapping[str, float]],
    title: str,
    aside: Collection[str] = (),
    x_label: str = "times as fast",
) -> Image.Image:
    """How many times as fast each of several is, a row per case; logarithmic, a line at 1.

    Args:
        rows: case to name to ratio, each more than 0; what has none is left out.
        title: written above.
        aside: names that are drawn in gray.
        x_label: what the ratios are.
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    with chart((7.2, 1.6 + 0.28 * len(rows))) as (axes, picture):
        axes.axvline(1, color="black", linewidth=1)
        for name, style in _marks(names, aside).items():
            places = [i for i, row in enumerate(rows.values()) if name in row]
            values = [row[name] for row in rows.values() if name in row]
            axes.plot(values, places, linestyle="", label=name, **style)
        axes.set(xscale="log", title=title, xlabel=x_label, ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(color="#e0e0e0", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=6)
    return picture[0]


def _marks(names: Iterable[str], aside: Collection[str]) -> dict[str, dict[str, Any]]:
    """A colour and a shape for each name; of the first 56 no two are alike, nor of 5 in gray."""
    coloured = zip(cycle(c for c in COLOURS if c != GRAY), cycle("os^Dv<Ph"), strict=False)
    gray = zip(repeat(GRAY), cycle("x+*1|"), strict=False)
    found = {}
    for name in names:
        colour, marker = next(gray if name in aside else coloured)
        found[name] = {"color": colour, "marker": marker, "markersize": 6}
    return found


def confusion(counts: NDArray[Any], classes: Sequence[str], title: str) -> Image.Image:
    """How often a true class (row) was taken for another (column); shaded by share of the row."""
    rows = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(rows, 1)
    many = len(classes) > 30
    side = 2.2 + min(max(len(classes), 3), 40) * (0.2 if many else 0.42)
    with chart((side, side)) as (axes, picture):
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, fontsize=8, rotation=90 if _long(classes) else 0)
        axes.set_yticks(ticks, classes, fontsize=8)
        axes.set(title=title, xlabel="taken for", ylabel="true class")
        for row, column in np.ndindex(*counts.shape) if not many else ():
            if counts[row, column]:
                colour = "white" if share[row, column] > 0.5 else "#303030"
                text = f"{counts[row, column]}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    return picture[0]


def _long(names: Sequence[str]) -> bool:
    return max(map(len, names), default=0) > 3


@contextmanager
def chart(inches: tuple[float, float]) -> Iterator[tuple[Axes, list[Image.Image]]]:
    """Axes to draw on; the finished picture is in the list when the block ends.

    Args:
        inches: width and height of the picture, `DPI` pixels each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    picture: list[Image.Image] = []
    yield figure.subplots(), picture
    canvas.draw()  # type: ignore[no-untyped-call]  # Matplotlib's canvases lack types
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]  # as above
    picture.append(Image.fromarray(pixels).convert("RGB"))
