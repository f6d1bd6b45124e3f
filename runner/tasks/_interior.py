"""Which pixels an output sees, and which outputs see only some of them: no padding, one pattern."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from runner.geometry import Axis, Shape
from runner.plan import Plan


def seen(axis: Axis, i: int) -> tuple[Fraction, Fraction]:
    """The first and the last pixel that output `i` sees along an axis; beyond the image, padding.

    They are fractions only after adaptive pooling whose windows differ in size.
    """
    centre, reach = axis.start + i * axis.jump, Fraction(axis.size - 1, 2)
    return centre - reach, centre + reach


def interior(axis: Axis | None, outputs: int, pixels: int, first: int = 0) -> list[int]:
    """The outputs along an axis that see only pixels `first` to `pixels` − 1.

    Args:
        axis: the field; None for outputs that see everything, which are in no interior.
        outputs: how many there are.
        pixels: size of the image.
        first: the first pixel that counts.
    """
    if axis is None:
        return []
    low, high = seen(axis, 0)
    begin = ceil((first - low) / axis.jump)
    end = floor((pixels - 1 - high) / axis.jump)
    return list(range(max(begin, 0), min(end, outputs - 1) + 1))


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
        _span(axis, n, size, outputs)
        for axis, n, size, outputs in zip(
            plan.field.axes(), plan.input.size, pattern.size, plan.output.size, strict=True
        )
    )
    return (rows, columns) if rows and columns else None


def _span(axis: Axis | None, n: int, size: int, outputs: int) -> Span | None:
    own = interior(axis, outputs, size)
    if axis is None or not own:
        return None
    places = min(floor((n - size) / axis.jump), outputs - own[0] - len(own)) + 1
    return Span(own[0], len(own), places, axis.jump)
