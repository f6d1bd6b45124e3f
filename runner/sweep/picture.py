"""The picture of a sweep: its metric over what varied."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import isfinite, log, nan
from typing import TYPE_CHECKING, Any

from runner.sweep.findings import Setting, Summary
from runner.sweep.records import is_number
from runner.sweep.tables import ranked
from runner.sweep.varied import SEED, identity, in_order, shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from runner.tracking.comparisons import Point
    from runner.tracking.scales import Scale

TICKS = 9
"""Values that are named on an axis, at most."""

ROWS = 30
"""Choices that are drawn, at most; the best, where there are more."""

GRID = 12
"""Values of a parameter that make a grid even where few of its places are filled."""

PANES = 6
"""Parameters that have a panel, at most."""

SPREAD = 4
"""Jobs from which on there is a distribution; fewer are a dot each."""

FAR = 1000
"""The largest value over the smallest, beyond which a linear axis hides the small ones."""

EQUAL = 1e-6
"""Metrics that differ by less of their size differ by rounding alone: nothing is to be seen."""


@dataclass(frozen=True)
class Axis:
    """A parameter that varied, as an axis.

    Attributes:
        label: its short name.
        values: all that it had; numbers in ascending order, choices in that of the sweep.
        numeric: whether all of them are finite numbers.
    """

    label: str
    values: tuple[Any, ...]
    numeric: bool

    @staticmethod
    def of(name: str, label: str, settings: Sequence[Setting]) -> Axis:
        """The axis of a parameter."""
        found = in_order(setting.values[name] for setting in settings)
        return Axis(label, tuple(found), all(is_number(v) and isfinite(v) for v in found))

    def position(self, value: Any) -> float:
        """Where a value stands: numbers at themselves, choices at 0, 1, 2 and so on."""
        return float(value) if self.numeric else float(self.place(value))

    def place(self, value: Any) -> int:
        """The index of a value."""
        return self._places[identity(value)]

    @cached_property
    def _places(self) -> dict[Hashable, int]:
        return {identity(value): place for place, value in enumerate(self.values)}

    def scale(self, *, names: bool = False) -> Scale:
        """How to lay it out; with `names`, every value has the same room."""
        from runner.tracking.scales import Scale

        if names or not self.numeric:
            return Scale(self.label, names=tuple(map(short, self.values)))
        ticks = self.values if len(self.values) <= TICKS else ()
        return Scale(self.label, log=log_spaced(self.values), ticks=ticks)


def draw(summary: Summary) -> Image | None:
    """The picture, or None when there are no two different numbers to compare.

    Different experiments have no common metric; their report shows what each of them drew.
    Settings whose jobs were skipped, or never ended, have no place in it.
    """
    if not summary.metrics or "experiment" in summary.names:
        return None
    metric = summary.metrics[0]
    drawn = tuple(s for s in summary.settings if _with(s, metric) or _failed(s, metric))
    summary = replace(summary, settings=drawn)
    jobs = [job for setting in drawn for job in _with(setting, metric)]
    values = [n for job in jobs if isfinite(n := float(job.metrics[metric]))]
    means = [_mean(setting, metric) for setting in drawn]
    if len(values) < 2 or not any(map(isfinite, means)):
        return None
    alike = max(values) - min(values) <= EQUAL * max(map(abs, values))
    repeated = list(summary.names.values()) in ([], [SEED])
    if alike and (repeated or not any(_failed(setting, metric) for setting in drawn)):
        return None
    from runner.tracking import comparisons

    axes = [Axis.of(name, label, drawn) for name, label in summary.names.items()]
    if repeated and (not axes or len(values) >= SPREAD):
        return comparisons.distribution(values, metric, "seeds" if axes else "equal jobs")
    if len(axes) == 1:
        return _over_one(summary, metric, axes[0])
    if len(axes) == 2:
        return _over_two(summary, metric, axes[0], axes[1])
    return _over_many(summary, metric, axes)


def log_spaced(values: Sequence[float]) -> bool:
    """Whether ascending numbers are better seen on a logarithmic axis than on a linear one.

    All must be positive, and either span more than a factor of `FAR` without being evenly spaced,
    or one of four with a median that lies nearer to the middle that way.
    """
    if values[0] <= 0 or values[-1] < 4 * values[0] * (1 - 1e-9):
        return False
    low, median, high = values[0], values[len(values) // 2], values[-1]
    gaps = [after - before for before, after in pairwise(values)]
    if high > FAR * low and (len(gaps) == 1 or max(gaps) > 1.5 * min(gaps)):
        return True
    linear = abs((median - low) / (high - low) - 0.5)
    return abs(log(median / low) / log(high / low) - 0.5) < linear - 1e-9


def short(value: Any) -> str:
    """A value as the name of a tick; between dollar signs Matplotlib expects formulas."""
    text = f"{value:g}" if is_number(value) else shown(value).replace("$", r"\$")
    return text if len(text) <= 24 else f"{text[:23]}…"


def _over_one(summary: Summary, metric: str, axis: Axis) -> Image:
    from runner.tracking import comparisons

    best = summary.best
    listed = ranked(summary) if len(summary.settings) > ROWS else list(summary.settings)
    if axis.numeric and axis.label != SEED:
        points = sorted((_point(s, metric, axis) for s in listed), key=lambda point: point.x)
        top = None if best is None else _point(best, metric, axis)
        star = None if top is None else (top.x, top.mean)
        return comparisons.band(points, axis.scale(), metric, best=star)
    kept = listed[:ROWS]
    name = next(iter(summary.names))
    axis = Axis.of(name, axis.label, kept)
    label = axis.label if len(kept) == len(listed) else f"{axis.label}, {ROWS} of {len(listed)}"
    rows = [axis.place(setting.values[name]) for setting in kept]
    points = [replace(_point(s, metric, axis), x=row) for s, row in zip(kept, rows, strict=True)]
    row = None if best is None else rows[kept.index(best)]
    return comparisons.whiskers(points, axis.scale(names=True).names, label, metric, row)


def _over_two(summary: Summary, metric: str, first: Axis, second: Axis) -> Image:
    import numpy as np

    from runner.tracking import heat

    names = list(summary.names)
    if len(first.values) > len(second.values):
        first, second, names = second, first, names[::-1]
    small = summary.objective is None or summary.objective.goal == "min"
    places = len(first.values) * len(second.values)
    if len(second.values) > GRID and len(summary.settings) < places / 2:
        if not (first.numeric and second.numeric):
            return _over_many(summary, metric, [first, second], names)
        spots = [(second.position(s.values[names[1]]), first.position(s.values[names[0]]))
                 for s in summary.settings]  # fmt: skip
        found = [(*spot, _mean(s, metric)) for spot, s in zip(spots, summary.settings, strict=True)]
        star = None if summary.best is None else spots[summary.settings.index(summary.best)]
        return heat.cloud(
            found, second.scale(), first.scale(), metric, small_is_good=small, best=star
        )
    values = np.full((len(first.values), len(second.values)), np.nan)
    cells = {
        id(s): (first.place(s.values[names[0]]), second.place(s.values[names[1]]))
        for s in summary.settings
    }
    for setting in summary.settings:
        values[cells[id(setting)]] = _mean(setting, metric)
    return heat.heat_map(
        values,
        second.scale(names=True),
        first.scale(names=True),
        metric,
        small_is_good=small,
        failed={cells[id(s)] for s in summary.settings if _failed(s, metric)},
        best=None if summary.best is None else cells[id(summary.best)],
    )


def _over_many(
    summary: Summary, metric: str, axes: Sequence[Axis], names: Sequence[str] = ()
) -> Image:
    from runner.tracking import comparisons

    panes = []
    for axis, name in list(zip(axes, names or summary.names, strict=True))[:PANES]:
        positions = [axis.position(setting.values[name]) for setting in summary.settings]
        panes.append((axis.scale(), positions))
    best = None if summary.best is None else summary.settings.index(summary.best)
    return comparisons.panels(panes, [_mean(s, metric) for s in summary.settings], metric, best)


def _with(setting: Setting, metric: str) -> list[Any]:
    return [job for job in setting.sample if metric in job.metrics]


def _mean(setting: Setting, metric: str) -> float:
    """The mean where it is finite, or NaN."""
    found = setting.over(metric)
    return found.mean if found is not None and isfinite(found.mean) else nan


def _failed(setting: Setting, metric: str) -> bool:
    """Whether a job failed or was ended, or gave a metric that isn't finite."""
    finite = all(isfinite(job.metrics[metric]) for job in _with(setting, metric))
    return not finite or setting.lacks


def _point(setting: Setting, metric: str, axis: Axis) -> Point:
    from runner.tracking.comparisons import Point

    found, values = setting.over(metric), [float(j.metrics[metric]) for j in _with(setting, metric)]
    deviation = None if found is None else found.deviation
    return Point(
        x=axis.position(next(iter(setting.values.values()))),
        mean=_mean(setting, metric),
        deviation=nan if deviation is None else deviation,
        values=tuple(filter(isfinite, values)),
        failed=_failed(setting, metric),
    )
