"""Charts that compare runs: colours are counted where they must be, and must not be."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from PIL import Image, ImageColor

from runner.tracking import heat
from runner.tracking.comparisons import (
    BLUE,
    GREEN,
    RED,
    Point,
    band,
    distribution,
    panels,
    whiskers,
)
from runner.tracking.scales import Scale

LR = Scale("lr", ticks=(1.0, 2.0, 3.0))
BEST = "#d6a000"
"""The frame of a heat map's best cell."""


def pixels(picture: Image.Image, colour: str) -> int:
    """How many pixels have a colour exactly."""
    return int((np.asarray(picture) == ImageColor.getrgb(colour)).all(axis=-1).sum())


def points(*means: float, deviation: float = nan, failed: bool = False) -> list[Point]:
    return [
        Point(float(i + 1), mean, deviation, (mean,), failed and i == 1)
        for i, mean in enumerate(means)
    ]


def pale(picture: Image.Image) -> int:
    """Pixels of the band: blue at 18 % on white, 255 − 0.18 · (255 − 33) = 215 for red."""
    colour = np.array([0.82 * 255 + 0.18 * c for c in ImageColor.getrgb(BLUE)])
    return int((np.abs(np.asarray(picture, float) - colour).max(axis=-1) < 2).sum())


class TestBand:
    def test_is_as_broad_as_the_deviation(self) -> None:
        # Without one, only the edges of the line are as pale.
        assert pale(band(points(1, 2, 3), LR, "error")) < 100
        narrow = pale(band(points(1, 2, 3, deviation=0.1), LR, "error"))
        broad = pale(band(points(1, 2, 3, deviation=0.6), LR, "error"))
        assert 1000 < narrow < broad / 2

    def test_below_zero_on_a_logarithmic_scale(self) -> None:
        # 100 ± 200 reaches below zero, where a logarithmic scale has no place.
        picture = band(points(1, 2, 100, deviation=200), LR, "error")
        assert pale(picture) > 1000

    def test_failures_and_the_best_are_marked(self) -> None:
        plain = band(points(3, 2, 3), LR, "error")
        assert pixels(plain, RED) == pixels(plain, GREEN) == 0
        marked = band(points(3, 2, 3, failed=True), LR, "error", best=(2.0, 2.0))
        assert pixels(marked, RED) > 5 and pixels(marked, GREEN) > 30

    def test_a_gap_where_nothing_came_out(self) -> None:
        whole = band(points(1, 1, 1, 1, 1), LR, "error")
        assert pixels(band(points(1, 1, nan, 1, 1), LR, "error"), BLUE) < pixels(whole, BLUE)

    def test_values_of_different_sizes(self) -> None:
        # On a linear scale the two small ones lie on one line; then the curve is steeper.
        def heights(picture: Image.Image) -> int:
            blue = (np.asarray(picture) == ImageColor.getrgb(BLUE)).all(axis=-1)
            return len(np.unique(np.nonzero(blue[:, :200])[0]))

        assert heights(band(points(0.01, 1, 1e6), LR, "e")) > 25
        assert heights(band(points(-0.01, 1, 1e6), LR, "e")) < 20


class TestWhiskers:
    ROWS = (
        Point(0, 1.0, 0.2, (0.8, 1.2)),
        Point(1, 2.0, nan, (2.0,)),
        Point(2, nan, nan, (), failed=True),
    )

    def test_rows(self) -> None:
        plain = whiskers(self.ROWS[:2], ["a", "b"], "stack", "error")
        assert pixels(plain, BLUE) > 60
        assert pixels(plain, RED) == pixels(plain, GREEN) == 0
        marked = whiskers(self.ROWS, ["a", "b", "c"], "stack", "error", best=1)
        assert pixels(marked, RED) > 5 and pixels(marked, GREEN) > 30
        assert marked.height > plain.height

    def test_many_rows_with_long_names(self) -> None:
        rows = [Point(float(i), 10.0**i, nan, (10.0**i,)) for i in range(30)]
        assert whiskers(rows, [f"a_long_name_{i}" * 2 for i in range(30)], "x", "y").height > 1000


class TestHeatMap:
    ACROSS, UPWARD = Scale("lr", names=("1", "2", "3")), Scale("steps", names=("10", "20"))
    VALUES = np.array([[1.0, 2, 3], [4, 5, 6]])

    @pytest.mark.parametrize("small_is_good", [True, False])
    def test_the_better_the_darker(self, small_is_good: bool) -> None:
        picture = heat.heat_map(
            self.VALUES, self.ACROSS, self.UPWARD, "e", small_is_good=small_is_good
        )
        gray = np.asarray(picture.convert("L"), float)
        h, w = gray.shape
        # The smallest is at the bottom left; the largest at the top right, left of the colour bar.
        low = gray[int(0.55 * h) : int(0.8 * h), int(0.13 * w) : int(0.3 * w)]
        high = gray[int(0.15 * h) : int(0.4 * h), int(0.66 * w) : int(0.86 * w)]
        dark, light = (low, high) if small_is_good else (high, low)
        assert np.median(dark) < 80 and np.median(light) > 240
        # The numbers in them can be read.
        assert dark.max() > 200 and light.min() < 80

    def test_the_best_is_framed(self) -> None:
        plain = heat.heat_map(self.VALUES, self.ACROSS, self.UPWARD, "e", small_is_good=True)
        framed = heat.heat_map(
            self.VALUES, self.ACROSS, self.UPWARD, "e", small_is_good=True, best=(0, 0)
        )
        assert pixels(plain, BEST) == 0 and pixels(framed, BEST) > 200

    def test_absent_cells_and_failed_ones(self) -> None:
        values = np.array([[1.0, nan, 3e6], [nan, 5, 6]])
        picture = heat.heat_map(
            values, self.ACROSS, self.UPWARD, "e", small_is_good=True, failed={(0, 1)}
        )
        assert pixels(picture, "#d9d9d9") > 1000

    @pytest.mark.parametrize("values", [np.full((2, 3), nan), np.full((2, 3), 7.0)])
    def test_nothing_to_tell_apart(self, values: np.ndarray) -> None:  # type: ignore[type-arg]
        heat.heat_map(values, self.ACROSS, self.UPWARD, "e", small_is_good=True)

    def test_a_large_one(self) -> None:
        names = tuple(f"{i / 7:.4f}" for i in range(200))
        values = np.arange(200 * 200.0).reshape(200, 200)
        picture = heat.heat_map(
            values, Scale("a", names=names), Scale("b", names=names), "e", small_is_good=False
        )
        assert max(picture.size) <= 1400


class TestCloud:
    def test_failures_and_the_best(self) -> None:
        spots = [(0.1, 1.0, 5.0), (0.2, 10.0, 6.0), (0.3, 100.0, nan)]
        scales = Scale("a"), Scale("b", log=True)
        plain = heat.cloud(spots[:2], *scales, "e", small_is_good=True)
        assert pixels(plain, RED) == pixels(plain, GREEN) == 0
        marked = heat.cloud(spots, *scales, "e", small_is_good=True, best=(0.1, 1.0))
        assert pixels(marked, RED) > 5 and pixels(marked, GREEN) > 30


class TestDistribution:
    @pytest.mark.parametrize("count", [2, 60, 61, 1000])
    def test_dots_or_a_histogram(self, count: int) -> None:
        assert pixels(distribution([i / count for i in range(count)], "error", "seeds"), BLUE) > 20

    @pytest.mark.parametrize("count", [20, 200])
    @pytest.mark.parametrize("lowest", [1.0, -1.0])
    def test_an_outlier(self, lowest: float, count: int) -> None:
        # Logarithmic where all are positive. Bars as narrow as most values lie would be 10²⁰.
        values = [lowest, *(1 + i / count for i in range(count)), 1e20]
        assert pixels(distribution(values, "error", "seeds"), BLUE) > 20

    def test_equal_values(self) -> None:
        assert pixels(distribution([3.0] * 100, "error", "seeds"), BLUE) > 1000


class TestPanels:
    @pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
    def test_a_panel_each(self, count: int) -> None:
        panes = [(Scale(f"p{i}", log=i == 1), [1.0, 2, 3]) for i in range(count)]
        picture = panels(panes, [1.0, nan, 0.5], "error", 2)
        # Each panel has the best and the failed one.
        alone = panels(panes[:2], [1.0, nan, 0.5], "error", 2)
        assert pixels(picture, GREEN) >= pixels(alone, GREEN) > 30
        assert picture.height >= alone.height
