"""Equivariance: where the input is shifted, the output shifts with it (the book, 6.1.2).

The stack runs on the images, and on the images shifted by 1, 2 … pixels. Layer by layer two
questions are asked. Is f(shift(x)) = shift(f(x))? A layer whose outputs lie `j` pixels apart can
only be asked for shifts by multiples of j. Outputs that see neither padding nor what the shift
brought in, the interior, must agree; at the border padding shows. And how much does position
matter: how different are f(shift(x)) and f(x), one laid on the other? Pooling makes it matter less
(6.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import Field as Limited

from runner.config.errors import problem
from runner.geometry import Axis, Pair
from runner.ops import Ops
from runner.plan import Plan, Row
from runner.stack import Stack
from runner.tasks import Objective, Run, Task
from runner.tasks._interior import interior
from runner.tasks._outputs import outputs_for, to_numpy
from runner.tasks._rounding import MARGIN, estimates, same, untold
from runner.tasks._selection import ADD_CONV
from runner.tracking import charts, pictures
from runner.tracking.boxes import GREEN, Box

Array = NDArray[np.floating[Any]]
Axes = Literal["rows", "columns", "both"]
Fill = Literal["zeros", "circular"]

WAYS = ("down", "to the right")
CHARTED = 7
"""Layers in a chart, at most."""


class Equivariance(Task):
    """Shifts of the input against shifts of the outputs.

    Attributes:
        axis: which way the input is shifted: ``rows`` down, ``columns`` to the right, or ``both``.
        max_shift: the largest shift, in pixels.
        fill: what comes in at the other side: ``zeros``, or what went out (``circular``). The same
            is done to the outputs that are compared.
        depth: 1 compares the stack's own layers; 2 those inside its containers too.
    """

    memory_factor: ClassVar[int] = 2
    measures: ClassVar[str] = """
        equivariant interior_error border_equivariant border_error interior_errors border_errors
        change change_ratio
    """
    showcase: ClassVar[tuple[str, ...]] = (
        "equivariance/change",
        "equivariance/error",
        "equivariance/maps/",
    )
    objective: ClassVar[Objective | None] = Objective("interior_error", "min")

    axis: Axes = "columns"
    max_shift: Annotated[int, Limited(ge=1, le=64)] = 4
    fill: Fill = "zeros"
    depth: Annotated[int, Limited(ge=1, le=16)] = 1

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """There must be a layer, and something of the image must stay."""
        if not plan.rows:
            raise problem("stack.layers", "at least one layer", "none", ADD_CONV)
        h, w = plan.input.size
        least = {"rows": h, "columns": w, "both": min(h, w)}[self.axis]
        if self.max_shift >= least:
            raise problem(
                "task.max_shift",
                f"at most {least - 1}, for some of the {h}×{w} image to stay",
                str(self.max_shift),
            )

    def run(self, run: Run) -> dict[str, Any]:
        """Errors of equivariance and changes with position, per layer and shift.

        Only the stack's own layers have a ratio of changes: what comes into another may be the
        outputs of several.
        """
        images = to_numpy(run.x)
        still = outputs_for(run, run.x, self.depth)
        allowed = estimates(run.model, run.x)
        rows = {row.name: row for row in run.plan.walk()}
        tracks = {name: Track(rows[name], y) for name, y in still.items()}
        change = [0.0]
        with run.progress(self.max_shift, "shifts") as advance:
            for s in range(1, self.max_shift + 1):
                by = (s * (self.axis != "columns"), s * (self.axis != "rows"))
                moved = shifted(images, by, self.fill)
                change.append(distance(moved, images))
                for name, y in outputs_for(run, run.tensor(moved), self.depth).items():
                    tracks[name].add(y, by, run.plan.input.size, self.fill)
                advance(f"by {s}")
        self._draw(run, list(tracks.values()), change)
        return self._verdict(run, list(tracks.values()), allowed) | {
            "change": {name: track.change[1] for name, track in tracks.items()},
            "change_ratio": _ratios(change, [tracks[row.name] for row in run.plan.rows]),
        }

    def _verdict(
        self, run: Run, tracks: Sequence[Track], allowed: Mapping[str, float]
    ) -> dict[str, Any]:
        inside = {t.row.name: max(t.interior.values()) for t in tracks if t.interior}
        border = {t.row.name: max(t.border.values()) for t in tracks if t.border}
        # The errors are relative to a layer's largest output, what rounding explains is not.
        exact = {t.row.name: allowed[t.row.name] / t.scale for t in tracks}
        metrics: dict[str, Any] = {}
        if inside:
            metrics |= _told(run, "equivariant", inside, exact)
            metrics["interior_error"] = max(inside.values())
        else:
            run.notes.append(
                "There is nothing to compare inside: no shift is a multiple of a layer's stride, "
                "or every output sees padding, what the shift brought in, or the whole image."
            )
        if border:
            metrics |= _told(run, "border_equivariant", border, exact)
            metrics["border_error"] = max(border.values())
        return metrics | {"interior_errors": inside, "border_errors": border}

    def _draw(self, run: Run, tracks: Sequence[Track], change: Sequence[float]) -> None:
        what = {"rows": "down", "columns": "to the right", "both": "down and to the right"}
        label = f"shift {what[self.axis]}, in pixels"
        curves = {"input": change} | {t.row.name: t.change for t in _some(tracks)}
        title = "How much position matters: f(shifted x) beside f(x)"
        picture = charts.lines(
            curves, title, label, "relative distance", from_zero=True, dashed=["input"]
        )
        run.tracker.image("equivariance/change", picture)
        shifts = range(1, self.max_shift + 1)
        errors = {
            f"{t.row.name}, border": [t.border.get(s, float("nan")) for s in shifts]
            for t in _some([t for t in tracks if t.border])
        }
        inside = [max((t.interior.get(s, -1.0) for t in tracks), default=-1.0) for s in shifts]
        if max(inside) >= 0:
            interior_of_all = [e if e >= 0 else float("nan") for e in inside]
            errors = {"interior, largest of all layers": interior_of_all} | errors
        if errors:
            title = "Error of equivariance: f(shifted x) − shifted f(x)"
            unit = "relative to the largest output"
            shown = _zeros_as_one(errors)
            if not any(map(np.nansum, shown.values())):
                title += ", 0 everywhere"
            picture = charts.lines(shown, title, label, unit, x=shifts, from_zero=True)
            run.tracker.image("equivariance/error", picture)
        for track in tracks:
            if track.sample is not None:
                run.tracker.image(f"equivariance/maps/{track.row.name}", track.sample.picture())


@dataclass(frozen=True)
class Sample:
    """One channel of one layer for the first image, to be looked at; all maps are h × w.

    Attributes:
        name: of the layer.
        shift: of the input, down and across.
        still: for the image.
        moved: for the shifted image.
        expected: the shifted map.
        inner: rows and columns of the interior.
    """

    name: str
    shift: Pair
    still: Array
    moved: Array
    expected: Array
    inner: tuple[list[int], list[int]]

    def picture(self) -> Image:
        """The maps side by side, and where they differ."""
        scale = pictures.symmetric_scale([self.still, self.moved])
        rows, columns = self.inner
        boxes = []
        if rows and columns:
            boxes = [Box(rows[0], columns[0], len(rows), len(columns), GREEN, "interior")]
        way = [f"{n} {where}" for n, where in zip(self.shift, WAYS, strict=True) if n]
        return pictures.sheet(
            [
                pictures.signed(self.still, f"{self.name}: f(x)", scale),
                pictures.signed(self.moved, f"f(x shifted {', '.join(way)})", scale),
                pictures.signed(self.moved - self.expected, "minus shifted f(x)", scale, boxes),
            ],
            columns=3,
        )


@dataclass
class Track:
    """What shifts do to one layer.

    Attributes:
        row: the layer.
        still: its output for the images, n × c × h × w or n × features.
        change: distance of its output to `still`, by shift from 0.
        interior: largest error of equivariance in the interior by shift, where the shift is a
            multiple of the layer's stride; relative to its largest output.
        border: likewise, outside the interior.
        sample: of the largest such shift.
    """

    row: Row
    still: Array
    change: list[float] = field(default_factory=lambda: [0.0])
    interior: dict[int, float] = field(default_factory=dict)
    border: dict[int, float] = field(default_factory=dict)
    sample: Sample | None = None

    @property
    def scale(self) -> float:
        """The layer's largest output, or 1 where all are zero."""
        return float(np.abs(self.still).max()) or 1.0

    def add(self, moved: Array, by: Pair, size: Pair, fill: Fill) -> None:
        """Compare with the outputs for the images shifted `by` pixels, of `size` pixels."""
        self.change.append(distance(moved, self.still))
        rows, columns = self.row.field.axes()
        if moved.ndim < 4 or rows is None or columns is None:
            return
        steps = [s / axis.jump for s, axis in zip(by, (rows, columns), strict=True)]
        if any(step.denominator > 1 for step in steps):
            return
        step = (int(steps[0]), int(steps[1]))
        expected = shifted(self.still, step, fill)
        error = np.abs(moved - expected).max(axis=(0, 1)) / self.scale
        inner = (
            _inner(rows, error.shape[0], size[0], by[0], step[0]),
            _inner(columns, error.shape[1], size[1], by[1], step[1]),
        )
        inside = np.zeros(error.shape, dtype=bool)
        inside[np.ix_(*inner)] = True
        for found, where in ((self.interior, inside), (self.border, ~inside)):
            if where.any():
                found[max(by)] = float(error[where].max())
        maps = (self.still[0, 0], moved[0, 0], expected[0, 0])
        self.sample = Sample(self.row.name, by, *maps, inner)


def _told(
    run: Run, metric: str, errors: Mapping[str, float], exact: Mapping[str, float]
) -> dict[str, bool]:
    """Whether all errors are rounding, by the metric's name; nothing where it can't be told."""
    import torch

    negligible = MARGIN * torch.finfo(run.x.dtype).eps
    told = {name: same(error, exact[name], 1, negligible) for name, error in errors.items()}
    if False in told.values():
        return {metric: False}
    unknown = next((name for name, answer in told.items() if answer is None), None)
    if unknown is None:
        return {metric: True}
    run.notes.append(untold(f"'{unknown}' is {metric}", exact[unknown], 1, run.dtype))
    return {}


def _zeros_as_one(curves: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Of curves that are 0 everywhere only the last would be seen: one stands for all of them."""
    zeros = {name: values for name, values in curves.items() if not np.nansum(np.abs(values))}
    if not zeros:
        return dict(curves)
    # Where some have gaps, the fullest.
    line = min(zeros.values(), key=lambda values: int(np.isnan(values).sum()))
    others = {name: values for name, values in curves.items() if name not in zeros}
    return {"\n".join(["0 everywhere:", *zeros]): line, **others}


def _some(tracks: Sequence[Track]) -> list[Track]:
    """As many as a chart has room for, evenly spaced and the last among them."""
    count = min(len(tracks), CHARTED)
    return [tracks[round(i)] for i in np.linspace(0, len(tracks) - 1, count)]


def _inner(axis: Axis, outputs: int, pixels: int, shift: int, step: int) -> list[int]:
    """The outputs that see only pixels that were there before the shift, as did their source."""
    return [i for i in interior(axis, outputs, pixels, shift) if i >= step]


def shifted(x: Array, by: Pair, fill: Fill) -> Array:
    """Images or maps, … × h × w, shifted down and to the right.

    What comes in is zero, or with ``circular`` what went out.
    """
    y = np.roll(x, by, axis=(-2, -1))
    if fill == "zeros":
        y[..., : by[0], :] = 0
        y[..., :, : by[1]] = 0
    return y


def distance(x: Array, y: Array) -> float:
    """‖x − y‖ / ‖y‖, or ‖x − y‖ where y is zero."""
    apart, length = (float(np.linalg.norm(z.astype(np.float64))) for z in (x - y, y))
    return apart / length if length else apart


def _ratios(change: Sequence[float], tracks: Sequence[Track]) -> dict[str, float]:
    """How much more a layer's output changes at shift 1 than its input does; 0 if that doesn't."""
    before, ratios = change[1], {}
    for track in tracks:
        ratios[track.row.name] = track.change[1] / before if before else 0.0
        before = track.change[1]
    return ratios
