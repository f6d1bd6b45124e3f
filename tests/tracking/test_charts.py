"""Charts: what can be known of them without looking; colours are counted, not judged."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor

from runner.tracking import charts


def pixels(picture: Image.Image, colour: str) -> int:
    """How many pixels have a colour exactly."""
    return int((np.asarray(picture) == ImageColor.getrgb(colour)).all(axis=-1).sum())


SERIES = {"a": [1.0, 2, 4], "a predicted": [4.0, 2, 1], "b": [3.0, 3, 3]}


class TestLines:
    def test_an_axis_from_zero_has_nothing_below(self) -> None:
        # The line lies on the lower edge of the frame, or in the middle of it.
        def height(**options: bool) -> float:
            picture = np.asarray(charts.lines({"e": [0.0, 0.0]}, "t", "x", "y", **options), int)
            blue = np.abs(picture - [0x21, 0x66, 0xAC]).sum(axis=2) < 60
            return float(np.nonzero(blue)[0].mean()) / len(picture)

        assert height() < 0.6
        assert height(from_zero=True) > 0.8

    def test_a_prediction_takes_no_colour_of_its_own(self) -> None:
        first, second, third = charts.COLOURS[:3]
        picture = charts.lines(SERIES, "title", "x", "y", dashed=["a predicted"])
        assert pixels(picture, first) > 100
        assert pixels(picture, second) > 100
        assert pixels(picture, third) == 0
        # Not dashed, it is a curve like any other, whatever its name.
        assert pixels(charts.lines(SERIES, "title", "x", "y"), third) > 100

    def test_nothing_positive_on_a_logarithmic_scale(self) -> None:
        picture = charts.lines({"loss": [0.0, 0.0]}, "title", "step", "loss", log=True)
        assert pixels(picture, charts.COLOURS[0]) > 10

    def test_more_curves_than_colours(self) -> None:
        series = {f"curve {i}": [float(i), i] for i in range(2 * len(charts.COLOURS))}
        assert charts.lines(series, "title", "x", "y").width > 500


class TestSurface:
    def test_shades_and_path(self) -> None:
        side = np.linspace(-1, 1, 21)
        values = side[:, None] ** 2 + side**2
        path = np.array([[0.9, 0.9], [-0.5, 0.5], [0.0, 0.0], [50.0, 50.0]])
        picture = charts.surface(
            values, side.tolist(), side.tolist(), "bowl", "x", "y", path=path, goal=(0.0, 0.0)
        )
        assert pixels(picture, charts.COLOURS[1]) > 100

    def test_a_valley(self) -> None:
        # Zero along a line: the logarithmic scale ends above it.
        side = np.linspace(-1, 1, 21)
        values = (side[:, None] + side) ** 2
        path = np.array([[0.5, 0.5]])
        charts.surface(
            values, side.tolist(), side.tolist(), "valley", "x", "y", path=path, goal=(0.0, 0.0)
        )


class TestBesideLimits:
    def test_a_limit_is_seen_on_a_bar_beyond_it(self) -> None:
        # Only where the bar is: black before its end, colour on both sides.
        def black(limit: float) -> int:
            rows = {"layer": {"error": (1e-2, limit)}}
            return pixels(charts.beside_limits(rows, "t", "x"), "#000000")

        assert black(1e-4) > 1.1 * black(float("nan"))

    def test_a_limit_of_zero_and_an_infinite_error(self) -> None:
        rows = {"layer": {"error": (1e-2, 0.0), "other": (float("inf"), 1e-3)}}
        charts.beside_limits(rows, "t", "x")


class TestRoofline:
    def test_roofs_and_points(self) -> None:
        points = {"native": [(1.0, 2.0), (10.0, 50.0)], "direct": [(1.0, 4.0)]}
        memory = {"memory": 5.0, "cache": 40.0}
        picture = charts.roofline(points, memory, 80.0, "roofs")
        for colour in charts.COLOURS[:2]:
            assert pixels(picture, colour) > 10
        assert pixels(picture, "#000000") > 300
        # The second roof adds to the first.
        alone = charts.roofline(points, {"memory": 5.0}, 80.0, "roofs")
        assert pixels(alone, "#000000") < pixels(picture, "#000000")

    def test_a_point_far_outside(self) -> None:
        charts.roofline({"native": [(1e-6, 1e-9)]}, {"memory": 5.0}, 80.0, "roofs")


class TestRatios:
    def test_what_has_no_ratio_is_left_out(self) -> None:
        rows = {"edge": {"native": 1.0, "direct": 20.0}, "pool": {"native": 1.0}}
        picture = charts.ratios(rows, "ratios")
        both = charts.ratios({**rows, "pool": {"native": 1.0, "direct": 20.0}}, "ratios")
        second = charts.COLOURS[1]
        assert 0 < pixels(picture, second) < pixels(both, second)

    def test_more_names_than_colours(self) -> None:
        names = [f"op{i}" for i in range(12)]
        row = {name: 2.0**i for i, name in enumerate(names)}
        picture = charts.ratios({"case": row}, "ratios")
        assert all((pixels(picture, c) > 40) == (c != charts.GRAY) for c in charts.COLOURS)

    def test_what_stands_aside_is_gray(self) -> None:
        rows = {"case": {"native": 1.0, "copy": 3.0, "direct": 20.0}}
        picture = charts.ratios(rows, "ratios", aside={"copy"})
        drawn = [c for c in charts.COLOURS if pixels(picture, c) > 20]
        assert drawn == [*charts.COLOURS[:2], charts.GRAY]
