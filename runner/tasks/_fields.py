"""Which pixels an output sees, by the arithmetic of receptive fields."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

from runner.geometry import Axis


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
