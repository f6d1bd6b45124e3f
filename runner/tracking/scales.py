"""Axes of charts that compare runs: linear or logarithmic, with ticks that can be read.

One rule decides how a metric is drawn, whatever the chart: on a logarithmic scale if it is `wide`.
Ticks are named in full (no ``+6.17e4`` at the end of the axis), and no name touches the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

WIDE = 50
"""The largest of positive values over the smallest, beyond which a linear scale hides some."""

NAMED = 12
"""Names along an axis, at most."""

LETTER = 0.9
"""Width of a digit over the size of its font, in pixels per point, at 100 pixels per inch."""

LARGE, SMALL = 10, 8
"""Sizes of fonts: of numbers at ticks and of names, in points."""


@dataclass(frozen=True)
class Scale:
    """How positions along an axis are laid out.

    Attributes:
        label: what the positions are.
        log: a logarithmic axis.
        names: what stands at 0, 1, 2 …, where positions are no quantities.
        ticks: positions that are named, in ascending order, where there are few.
    """

    label: str
    log: bool = False
    names: tuple[str, ...] = ()
    ticks: tuple[float, ...] = ()


def wide(values: Sequence[float]) -> bool:
    """Whether positive values are of sizes so different that only a logarithmic scale shows all."""
    finite = [value for value in values if isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > WIDE * min(finite)


def rounded(value: float, digits: int) -> str:
    """A number to so many digits; all digits before the point, if they are nine at most."""
    whole = isfinite(value) and (float(value).is_integer() or abs(value) >= 10 ** (digits - 1))
    return f"{value:,.0f}" if whole and abs(value) < 1e9 else f"{value:.{digits}g}"


def lay_out(axes: Axes, scale: Scale) -> None:
    """The axis across, with its label and ticks; what is drawn must be there already."""
    axes.set_xlabel(scale.label)
    if scale.log:
        axes.set_xscale("log")
    if scale.names:
        every = ceil(len(scale.names) / NAMED)
        places, named = range(0, len(scale.names), every), scale.names[::every]
        turned, side = (0, "center") if fit(axes, places, named) else (45, "right")
        axes.set_xticks(places, named, fontsize=SMALL, rotation=turned, ha=side)
    elif scale.ticks:
        _name(axes, scale.ticks)
    elif scale.log:
        few_decades(axes)
    else:
        numbers(axes)


def fit(axes: Axes, places: Sequence[int], names: Sequence[str]) -> bool:
    """Whether names at these places of an axis across have room beside each other."""
    axes.set_xticks(places)
    return len(_readable(_pixels(axes, places), names, SMALL)) == len(names)


def numbers(axes: Axes) -> None:
    """The numbers of a linear axis across: as many as have room."""
    plain(axes.xaxis)
    for count in range(9, 1, -1):
        axes.locator_params(axis="x", nbins=count)
        low, high = sorted(axes.get_xlim())
        ticks = [float(tick) for tick in axes.get_xticks() if low <= tick <= high]
        texts = [f"{tick:.10g}" for tick in ticks]
        if len(_readable(_pixels(axes, ticks), texts, LARGE)) == len(texts):
            return


def few_decades(axes: Axes) -> None:
    """Ticks at 1, 2, 5, 10 … on a logarithmic axis across that has too few powers of ten."""
    low, high = axes.get_xlim()
    if high < 100 * low:
        powers = [10.0**n for n in range(floor(log10(low)), ceil(log10(high)))]
        ticks = [n * power for power in powers for n in (1, 2, 5)]
        _name(axes, [tick for tick in ticks if low <= tick <= high])


def plain(axis: Axis) -> None:
    """The numbers at the ticks of a linear axis in full, to ten digits."""

    def text(value: float, _: object) -> str:
        low, high = axis.get_view_interval()
        return "0" if abs(value) < 1e-9 * abs(high - low) else f"{value:.10g}"

    if axis.get_scale() == "linear":
        axis.set_major_formatter(text)


def _name(axes: Axes, ticks: Sequence[float]) -> None:
    """Ticks at these positions; names at as many as have room."""
    texts = [f"{tick:g}" for tick in ticks]
    axes.set_xticks(ticks)
    kept = _readable(_pixels(axes, ticks), texts, LARGE)
    axes.set_xticks(ticks, [text if i in kept else "" for i, text in enumerate(texts)])
    axes.minorticks_off()


def _pixels(axes: Axes, positions: Sequence[float]) -> list[float]:
    """Where positions are, across the picture."""
    axes.get_xlim()  # settles the limits
    transform = axes.get_xaxis_transform()
    return [float(transform.transform((position, 0))[0]) for position in positions]


def _readable(pixels: Sequence[float], texts: Sequence[str], size: int) -> set[int]:
    """Which texts, each in the middle of its place, don't touch another: the first ones stay."""
    kept, end = set(), -inf
    for i, (pixel, text) in enumerate(zip(pixels, texts, strict=True)):
        half = len(text) * LETTER * size / 2
        if pixel - half > end:
            kept.add(i)
            end = pixel + half + LETTER * size
    return kept
