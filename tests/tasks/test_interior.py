"""What outputs see, counted on a row of pixels."""

from __future__ import annotations

from fractions import Fraction

import pytest

import runner
from runner.geometry import Axis, Shape
from runner.tasks._interior import Span, interior, seen, spans


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


def test_where_a_patterns_features_lie() -> None:
    def of(size: tuple[int, int], *words: str) -> tuple[Span, Span] | None:
        words = ("stack=empty", "data.height=20", "data.width=20", *words)
        return spans(runner.plan(*words), Shape(1, *size))

    # No layers: 20 − 4 + 1 places, all four pixels.
    assert of((4, 4)) == (Span(0, 4, 17, Fraction(1)), Span(0, 4, 17, Fraction(1)))
    # 3×3 with one row of padding: output 1 is the first that sees pixels 0 to 2 alone.
    conv = "stack.layers={c: {kind: conv, weight: box, padding: 1}}"
    assert of((4, 3), conv) == (Span(1, 2, 17, Fraction(1)), Span(1, 1, 18, Fraction(1)))
    assert of((2, 4), conv) is None
    # Stride 2: outputs see 0–2, 2–4, 4–6 …; six pixels hold two of them.
    stride = "stack.layers={c: {kind: conv, weight: box, stride: 2}}"
    assert of((6, 20), stride) == (Span(0, 2, 8, Fraction(2)), Span(0, 9, 1, Fraction(2)))
