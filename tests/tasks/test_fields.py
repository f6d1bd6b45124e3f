"""What outputs see, counted on a row of pixels."""

from __future__ import annotations

from fractions import Fraction

import pytest

from runner.geometry import Axis
from runner.tasks._fields import interior, seen


@pytest.mark.parametrize(
    ("axis", "spans"),
    [
        (Axis(), [(0, 0), (1, 1), (2, 2)]),  # a pixel sees itself
        (Axis(3, Fraction(1), Fraction(1)), [(0, 2), (1, 3), (2, 4)]),  # three wide, no padding
        (Axis(3, Fraction(2), Fraction(0)), [(-1, 1), (1, 3), (3, 5)]),  # stride 2, padding 1
        (Axis(2, Fraction(1), Fraction(1, 2)), [(0, 1), (1, 2), (2, 3)]),  # centred between pixels
    ],
)
def test_first_and_last_pixel(axis: Axis, spans: list[tuple[int, int]]) -> None:
    assert [seen(axis, i) for i in range(3)] == spans


@pytest.mark.parametrize(
    ("axis", "outputs", "pixels", "first", "inside"),
    [
        (Axis(3, Fraction(1), Fraction(1)), 4, 6, 0, [0, 1, 2, 3]),
        (Axis(3, Fraction(1), Fraction(1)), 4, 6, 2, [2, 3]),
        (Axis(3, Fraction(1), Fraction(1)), 4, 6, 4, []),
        (Axis(3, Fraction(1), Fraction(0)), 6, 6, 0, [1, 2, 3, 4]),  # padding 1 on both sides
        (Axis(3, Fraction(2), Fraction(0)), 3, 6, 0, [1, 2]),  # −1…1, 1…3, 3…5
        (Axis(3, Fraction(2), Fraction(0)), 3, 6, 1, [1, 2]),
        (Axis(3, Fraction(2), Fraction(0)), 3, 6, 2, [2]),
        (Axis(9, Fraction(1), Fraction(0)), 6, 6, 0, []),  # none fits
        (None, 6, 6, 0, []),
        # Adaptive pooling of 7 to 3: 0…2, 2…4, 4…6, by arithmetic from −1/3, 2 and 4⅓.
        (Axis(3, Fraction(7, 3), Fraction(2, 3)), 3, 7, 0, [1]),
    ],
)
def test_interior(
    axis: Axis | None, outputs: int, pixels: int, first: int, inside: list[int]
) -> None:
    assert interior(axis, outputs, pixels, first) == inside
