"""Where a pattern's features lie among those of an image, after any stack."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from runner.geometry import Axis, Shape
from runner.plan import Plan


@dataclass(frozen=True)
class Span:
    """A pattern along one axis of a stack's output.

    Attributes:
        first: the first output that sees nothing but a pattern at the image's edge.
        count: how many such outputs there are.
        places: how many places the pattern has within the image.
        jump: input pixels from one place to the next.
    """

    first: int
    count: int
    places: int
    jump: Fraction

    @property
    def pattern(self) -> slice:
        """Outputs that are the pattern's features."""
        return slice(self.first, self.first + self.count)

    @property
    def searched(self) -> slice:
        """Outputs that are searched."""
        return slice(self.first, self.first + self.places - 1 + self.count)


def spans(plan: Plan, pattern: Shape) -> tuple[Span, Span] | None:
    """Rows and columns of the output; None where no output sees only the pattern."""
    assert isinstance(plan.output, Shape)
    rows, columns = (
        None if axis is None else _span(axis, n, size, out)
        for axis, n, size, out in zip(
            plan.field.axes(), plan.input.size, pattern.size, plan.output.size, strict=True
        )
    )
    return (rows, columns) if rows and columns else None


def _span(axis: Axis, n: int, size: int, outputs: int) -> Span | None:
    """Output i is centred at start + i · jump and sees (field − 1) / 2 pixels to both sides."""
    reach = Fraction(axis.size - 1, 2)
    first = max(0, ceil((reach - axis.start) / axis.jump))
    last = floor((size - 1 - reach - axis.start) / axis.jump)
    count = min(last, outputs - 1) - first + 1
    if count < 1:
        return None
    places = min(floor((n - size) / axis.jump), outputs - first - count) + 1
    return Span(first, count, places, axis.jump)
