"""Receptive field: what one output sees of the input (the book, 6.2.6), in theory and in effect.

The theoretical field is arithmetic on kernels, strides and paddings. The effective field (Luo et
al. 2016, "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks") is
measured: the gradient of one output position with respect to the input says how much each pixel
matters. Of a Gaussian, 95.45 % lie within two standard deviations of the mean; so the effective
field is, per axis, the shortest run of pixels that holds 95.45 % of the gradient's magnitude.

The support is where the gradient is not exactly zero. Operators that compute by transforms leave
rounding beyond their windows; of these, where it is more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Limited

from runner.config.errors import ConfigError, problem
from runner.geometry import Axis, Pair, Shape
from runner.ops import Ops
from runner.plan import Plan, Row
from runner.stack import Stack
from runner.tasks import Run, Task
from runner.tasks._interior import seen
from runner.tasks._outputs import at_layer, to_numpy
from runner.tasks._rounding import NONE, transformed
from runner.tasks._selection import ADD_CONV, Position, named_layer, outside
from runner.tracking import charts, pictures
from runner.tracking.boxes import GREEN, ORANGE, Box

if TYPE_CHECKING:
    from torch import Tensor

Map = NDArray[np.floating[Any]]

TWO_SIGMA = 0.9545
"""The share of a Gaussian that lies within two standard deviations."""

MARGIN = 2
"""Pixels shown around the field."""


@dataclass(frozen=True)
class Interval:
    """A run of pixels along one axis, `start` to `stop` − 1; negative ones lie in the padding."""

    start: int = 0
    stop: int = 0

    @property
    def size(self) -> int:
        """How many there are."""
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.start} to {self.stop - 1}"

    def holds(self, other: Interval) -> bool:
        """Whether all of another run's pixels are in this one."""
        return not other.size or (self.start <= other.start and other.stop <= self.stop)

    @staticmethod
    def seen(axis: Axis, i: int) -> Interval:
        """What output `i` sees."""
        low, high = seen(axis, i)
        return Interval(floor(low), ceil(high) + 1)

    @staticmethod
    def nonzero(weights: NDArray[Any]) -> Interval:
        """From the first weight that isn't zero to the last."""
        found = np.flatnonzero(weights)
        return Interval(int(found[0]), int(found[-1]) + 1) if found.size else Interval()

    @staticmethod
    def shortest(weights: NDArray[Any], share: float = TWO_SIGMA) -> Interval:
        """The shortest run that holds a share of all weight; of equal ones, the heaviest."""
        sums = np.concatenate([[0.0], np.cumsum(weights)])
        if not sums[-1] > 0:
            return Interval()
        enough = share * sums[-1] * (1 - 1e-12)  # sums of rounded numbers may just miss it
        for size in range(1, len(sums)):
            held = sums[size:] - sums[:-size]
            if held.max() >= enough:
                return Interval(int(held.argmax()), int(held.argmax()) + size)
        raise AssertionError("unreachable: all together hold enough")


class ReceptiveField(Task):
    """Receptive field of one output.

    Attributes:
        layer: the name of one that gives feature maps, dotted inside containers; default: the
            last one.
        position: row and column of its output; default: the middle.
        inputs: what the gradient is taken at: ``noise`` (standard normal, from the run's seed) or
            the ``data``. Of a stack without nonlinearities it is the same everywhere.
        samples: how many inputs the gradient's magnitude is averaged over, at most.
    """

    memory_factor: ClassVar[int] = 2
    measures: ClassVar[str] = """
        layer position theoretical support effective inside effective_stride centre fields
    """
    showcase: ClassVar[tuple[str, ...]] = ("receptive_field/overview", "receptive_field/profile")

    layer: str | None = None
    position: Position | None = None
    inputs: Literal["noise", "data"] = "noise"
    samples: Annotated[int, Limited(ge=1, le=10_000)] = 16

    def batch(self, count: int) -> int:
        """The samples."""
        return self.samples if self.inputs == "noise" else min(self.samples, count)

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """The layer must be there and give feature maps; the position must lie in them."""
        row = self._row(plan)
        shape = row.output
        assert isinstance(shape, Shape)  # _row
        expected = f"[row, column] within the {shape.height}×{shape.width} output of '{row.name}'"
        problems = outside({"task.position": self._place(row)}, shape.size, expected)
        if problems:
            raise ConfigError(*problems)

    def run(self, run: Run) -> dict[str, Any]:
        """The theoretical field, where the gradient is not zero, and the effective field."""
        row = self._row(run.plan)
        place, axes = self._place(row), [axis for axis in row.field.axes() if axis]
        magnitude = self._gradient(run, row, place)
        theory = [Interval.seen(axis, i) for axis, i in zip(axes, place, strict=True)]
        support = self._support(run, magnitude)
        effect = [Interval.shortest(magnitude.sum(axis=1 - k)) for k in (0, 1)]
        run.outputs["receptive_field/gradient"] = magnitude
        self._note(run, row, theory, support)
        self._draw(run, row, magnitude, theory, effect)
        return {
            "layer": row.name,
            "position": list(place),
            "theoretical": [axis.size for axis in axes],
            "support": [span.size for span in support],
            "effective": [span.size for span in effect],
            "inside": all(t.holds(s) for t, s in zip(theory, support, strict=True)),
            "effective_stride": [_plain(axis.jump) for axis in axes],
            "centre": [_plain(a.start + i * a.jump) for a, i in zip(axes, place, strict=True)],
            "fields": {r.name: list(r.receptive_field) for r in run.plan.rows if r.receptive_field},
        }

    def _row(self, plan: Plan) -> Row:
        """The layer asked for.

        Raises:
            ConfigError: there is none of this name, or it has no positions.
        """
        able = {row.name: row for row in plan.walk() if row.receptive_field}
        if not able:
            given = f"'{plan.rows[0].name}' first" if plan.rows else "none"
            raise problem("stack.layers", "a layer that gives feature maps", given, ADD_CONV)
        if self.layer is None:
            own = [row for row in plan.rows if row.name in able]
            return own[-1] if own else list(able.values())[-1]
        return named_layer(self.layer, plan, able, "a layer that gives feature maps")

    def _place(self, row: Row) -> Pair:
        assert isinstance(row.output, Shape)  # _row
        return self.position or (row.output.height // 2, row.output.width // 2)

    def _gradient(self, run: Run, row: Row, place: Pair) -> Map:
        """The mean magnitude of the gradient of one position's channels, added up; h × w."""
        import torch

        run.model.requires_grad_(False)
        x = self._samples(run).requires_grad_()
        _, y = at_layer(run, row.name, x)
        (gradient,) = torch.autograd.grad(y[:, :, place[0], place[1]].sum(), x)
        mean: Map = np.abs(to_numpy(gradient)).astype(np.float64).sum(axis=1).mean(axis=0)
        return mean

    def _support(self, run: Run, magnitude: Map) -> list[Interval]:
        import torch

        rows = transformed(run.plan, run.ops)
        if rows:
            least = NONE * torch.finfo(run.x.dtype).eps * float(magnitude.max())
            magnitude = np.where(magnitude > least, magnitude, 0)
            run.notes.append(
                f"{rows[0].name} may be computed by transforms ({rows[0].op}), which leave "
                f"rounding beyond its window: gradients up to {least:.1g} count as none."
            )
        return [Interval.nonzero(magnitude.sum(axis=1 - k)) for k in (0, 1)]

    def _samples(self, run: Run) -> Tensor:
        import torch

        if self.inputs == "data":
            return run.x[: self.samples].clone()
        noise = torch.randn(self.samples, *run.plan.input.dims, generator=run.generator)
        return noise.to(run.x)

    def _note(self, run: Run, row: Row, theory: list[Interval], support: list[Interval]) -> None:
        if not all(span.size for span in support):
            run.notes.append("The gradient is zero: no input that was tried changes this output.")
        size = run.plan.input.size
        axes = zip(row.field.axes(), self._place(row), size, strict=True)
        ends = [(*seen(axis, i), n) for axis, i, n in axes if axis]
        if any(low <= -1 or high >= n for low, high, n in ends):
            run.notes.append(
                f"The field reaches beyond the {size[0]}×{size[1]} image: it covers rows "
                f"{theory[0]} and columns {theory[1]}."
            )

    def _draw(
        self, run: Run, row: Row, magnitude: Map, theory: list[Interval], effect: list[Interval]
    ) -> None:
        place = self._place(row)
        title = f"the input, and what {row.name} sees at {place[0]}, {place[1]}"
        on_input = pictures.photograph(run.images.x[0], title, _boxes(theory, effect))
        # Fields are often small beside the image: the gradient is shown around them only.
        top, left = (max(0, span.start - MARGIN) for span in theory)
        bottom, right = (span.stop + MARGIN for span in theory)
        near = magnitude[top:bottom, left:right]
        title = "magnitude of the gradient"
        if near.shape != magnitude.shape:
            title += f", from row {top}, column {left}"
        heat = pictures.brightness(
            near, title, float(magnitude.max()) or 1.0, _boxes(theory, effect, top, left)
        )
        profiles = {
            name: magnitude.sum(axis=axis)[span.start if span.start > 0 else 0 : span.stop]
            for name, axis, span in (("down", 1, theory[0]), ("across", 0, theory[1]))
        }
        total = float(magnitude.sum()) or 1.0
        profile = charts.lines(
            {name: (line / total).tolist() for name, line in profiles.items()},
            f"How much each pixel of the field matters to {row.name}",
            "pixel of the field",
            "share of the gradient's magnitude",
        )
        run.tracker.image("receptive_field/input", on_input)
        run.tracker.image("receptive_field/gradient", heat)
        run.tracker.image("receptive_field/profile", profile)
        run.tracker.image("receptive_field/overview", pictures.sheet([on_input, heat]))


def _boxes(
    theory: list[Interval], effect: list[Interval], top: int = 0, left: int = 0
) -> list[Box]:
    """Both fields as rectangles on a map that begins at row `top` and column `left`."""
    return [
        Box(rows.start - top, columns.start - left, rows.size, columns.size, colour, label)
        for (rows, columns), colour, label in (
            (theory, ORANGE, "theoretical"),
            (effect, GREEN, "effective"),
        )
        if rows.size
    ]


def _plain(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)
