"""Axes of charts: the rule for logarithmic ones, and names of ticks that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf, nan

import pytest

from runner.tracking.charts import chart
from runner.tracking.scales import Scale, lay_out, plain, rounded, wide


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ([1, 100], True),
        ([1, 51], True),
        ([1, 50], False),
        ([0, 100], False),
        ([-1, 100], False),
        ([], False),
        ([1, inf], False),
        ([nan, 1, 100], True),
    ],
)
def test_wide(values: list[float], answer: bool) -> None:
    assert wide(values) is answer


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (61706, 4, "61,706"),
        (61713.5, 5, "61,714"),
        (12.5, 5, "12.5"),
        (61706.4, 4, "61,706"),
        (0.057664, 4, "0.05766"),
        (0.0, 2, "0"),
        (123.4, 2, "123"),
        (-123456.0, 2, "-123,456"),
        (1e20, 4, "1e+20"),
        (inf, 4, "inf"),
        (nan, 4, "nan"),
    ],
)
def test_rounded(value: float, digits: int, text: str) -> None:
    assert rounded(value, digits) == text


@pytest.mark.parametrize("width", [3.4, 7.2])
@pytest.mark.parametrize(
    ("scale", "positions"),
    [
        (Scale("lr", ticks=(0.01, 0.02, 1e20)), ()),
        (Scale("lr", log=True, ticks=(0.01, 0.02, 1e20)), ()),
        (Scale("lr", log=True, ticks=(0.0123457, 0.0133457, 0.0203457, 0.0303457, 0.0903457)), ()),
        (Scale("lr", ticks=tuple(0.1 + 0.0123457 * i for i in range(9))), ()),
        (Scale("stack", names=tuple("abcdef")), range(6)),
        (Scale("stack", names=("a", "a_name_of_24_letters_abc", *"bcdefg")), range(8)),
        (Scale("error"), (61706.01, 61706.08)),
        (Scale("error"), (-0.088, -0.08800001)),
        (Scale("steps"), (0, 1e9)),
        (Scale("steps", log=True), (1.0, 1e9)),
        (Scale("steps", log=True), (0.013, 0.09)),
    ],
)
def test_names_of_ticks_never_overlap(
    scale: Scale, positions: Sequence[float], width: float
) -> None:
    positions = positions or scale.ticks
    with chart((width, 2.9)) as (axes, _):
        axes.plot(positions, positions)
        lay_out(axes, scale)
        plain(axes.yaxis)
        axes.figure.canvas.draw()
        low, high = axes.get_xlim()
        labels = [
            label
            for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
            if label.get_text() and low <= place <= high
        ]
        names = [label.get_text() for label in labels]
        boxes = [label.get_window_extent() for label in labels]
        offsets = [axis.get_offset_text().get_text() for axis in (axes.xaxis, axes.yaxis)]
    assert offsets == ["", ""]
    assert len(names) == len(set(names)) > 1
    if not labels[0].get_rotation():
        assert all(one.x1 < other.x0 for one, other in pairwise(boxes))
